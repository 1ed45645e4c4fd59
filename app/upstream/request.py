"""The request: the bytes of a send. What all sends of one form share httpx2 makes once; each adds its IDs and its token's value."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

import httpx2

from app.domain import Operation, Parameter, TokenValue

__all__ = ["HEADERS", "RequestForm"]

HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "flxpoint-gateway", "Connection": "keep-alive"}
"""Every header of every request, but for `Host`, `Content-Length` and the token's own."""


class RequestForm:
    """What the sends of one operation and parameter have in common. Nothing of a caller's goes into it, and of a call only the IDs.

    Args:
        base: the upstream's address, without a slash at its end.
        operation: what is asked for.
        parameter: what the IDs are.
    """

    def __init__(self, base: str, operation: Operation, parameter: Parameter) -> None:
        name = urlencode({parameter.name: ""})
        query = f"?{name}" if operation.parameters else ""
        request = httpx2.Request(operation.method, f"{base}{operation.path}{query}", headers=HEADERS)
        fields = b"".join(b"%b: %b\r\n" % field for field in request.headers.raw)
        self._start = f"{request.method} ".encode("ascii") + request.url.raw_path
        self._middle = b" HTTP/1.1\r\n" + fields + b"X-API-TOKEN: "
        self._between = f"&{name}" if parameter.explode else "%2C"

    def filled(self, ids: Iterable[int], value: TokenValue) -> bytes:
        """A whole request, with the token in the one header that carries it. The only place where a value leaves the process.

        Raises:
            ValueError: the value can't stand in a header.
        """
        plain = value.reveal()
        if not (plain.isascii() and plain.isprintable()):
            message = "a token's value can't stand in a header"
            raise ValueError(message)
        return b"%b%b%b%b\r\n\r\n" % (self._start, self._between.join(map(str, ids)).encode("ascii"), self._middle, plain.encode("ascii"))
