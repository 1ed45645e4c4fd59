"""The upstream: every send goes through it. Foreign exceptions end here."""

from __future__ import annotations

import ssl
from functools import partial

import aiohttp
import structlog
from aiohttp.http import HttpProcessingError

from app.domain import Garbled, Outcome, Send, Stamps, TimedOut, TokenValue, Unreachable
from app.upstream.reading import read
from app.upstream.request import RequestForm
from app.upstream.wire import AnswerTooLarge, TimeLimits, Wire

__all__ = ["Upstream", "open_upstream"]

log = structlog.get_logger(__name__)


class Upstream:
    """The Flxpoint API.

    Args:
        base_url: its address.
        wire: the connections to it. They are closed with this object.
    """

    def __init__(self, base_url: str, wire: Wire) -> None:
        self._base = base_url.rstrip("/")
        self._wire = wire
        self._forms: dict[tuple[str, str], RequestForm] = {}

    async def send(self, send: Send, value: TokenValue, stamps: Stamps) -> Outcome:
        """Make one request. Nothing of the caller's goes into it but the parameter and the IDs; it is never repeated.

        Args:
            send: what to ask for.
            value: the token's value, for this send alone.
            stamps: is told when the request was written and when the status line came.

        Returns:
            How it ended. A failure is uncertain exactly where the request had been written.
        """
        try:
            return await self._exchange(send, value, stamps)
        except AnswerTooLarge as error:
            return Garbled(f"the upstream's answer is larger than {send.operation.max_answer_bytes} bytes", error.status)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            return _failure(error, written=stamps.was_written)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._wire.aclose()

    async def _exchange(self, send: Send, value: TokenValue, stamps: Stamps) -> Outcome:
        request = self._form(send).filled(send.ids, value)
        reading = await self._wire.exchange(request, stamps, most_bytes=send.operation.max_answer_bytes, read=partial(read, send, value))
        if reading.echoes:
            _report_echo(send, reading.echoes)
            stamps.echoed(reading.echoes)
        return reading.outcome

    def _form(self, send: Send) -> RequestForm:
        key = send.operation.id, send.parameter.name
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = RequestForm(self._base, send.operation, send.parameter)
        return form


def open_upstream(base_url: str, limits: TimeLimits | None = None) -> Upstream:
    """The upstream at a base URL, for the loop that runs; TLS is verified against the system's authorities.

    No proxies of the environment's, no cookies, no redirects, no silent retries: nothing here knows of such.
    """
    return Upstream(base_url, Wire(base_url, ssl.create_default_context(), limits or TimeLimits()))


def _report_echo(send: Send, finds: int) -> None:
    log.error(
        "the upstream's answer held the token's value; it was taken out",
        token=send.token.name,
        finds=finds,
        send_id=send.id,
        request_id=send.calls[0].request_id,
    )


def _failure(cause: BaseException, *, written: bool) -> Outcome:
    """What a failure means."""
    name = type(cause).__name__
    if not written:
        return Unreachable(f"no connection to Flxpoint ({name})", uncertain=False)
    if isinstance(cause, TimeoutError):
        return TimedOut("Flxpoint gave no whole answer in time")
    if isinstance(cause, HttpProcessingError):
        return Garbled("Flxpoint's answer is not HTTP", None)
    return Unreachable(f"the connection to Flxpoint broke before its whole answer came ({name})", uncertain=True)
