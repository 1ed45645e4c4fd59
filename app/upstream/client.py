"""The client: one long-lived httpx2 client, through which every send goes. Foreign exceptions end here."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlencode

import aiohttp
import httpx2
import structlog

from app.domain import Garbled, Outcome, Send, Stamps, TimedOut, TokenValue, Unreachable
from app.upstream.classify import classify
from app.upstream.scrub import Scrubber, readable
from app.upstream.transport import current_stamps, stamping_transport

__all__ = ["TimeLimits", "TokenAuth", "Upstream", "open_upstream"]

USER_AGENT = "flxpoint-gateway"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The seconds that a send may take: to connect, to wait for the next bytes of the answer, and in all."""

    connect: float = 5.0
    read: float = 30.0
    whole: float = 60.0


class TokenAuth(httpx2.Auth):
    """Puts the token into the one header that carries it. The only place where a value leaves the process."""

    def __init__(self, value: TokenValue) -> None:
        self._value = value

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Add the header."""
        request.headers["X-API-TOKEN"] = self._value.reveal()
        yield request


class _TooLarge(Exception):
    """The answer is larger than the catalogue allows."""


class Upstream:
    """The Flxpoint API.

    Args:
        client: an httpx2 client over the stamping transport, with the upstream's base URL. It is closed with this object.
        whole_send: seconds that one send may take in all, from connecting to the body's last byte.
    """

    def __init__(self, client: httpx2.AsyncClient, whole_send: float) -> None:
        self._client = client
        self._base = str(client.base_url).rstrip("/")
        self._whole_send = whole_send

    async def send(self, send: Send, value: TokenValue, stamps: Stamps) -> Outcome:
        """Make one request. Nothing of the caller's goes into it but the parameter and the IDs; it is never repeated.

        Args:
            send: what to ask for.
            value: the token's value, for this send alone.
            stamps: is told when the request was written and when the status line came.

        Returns:
            How it ended. A failure is uncertain exactly where the request had been written.
        """
        reset = current_stamps.set(stamps)
        try:
            async with asyncio.timeout(self._whole_send):
                return await self._exchange(send, value, stamps)
        except (httpx2.HTTPError, aiohttp.ClientError, OSError) as error:
            cause = error.__cause__ if isinstance(error, httpx2.HTTPError) and error.__cause__ else error
            return _failure(cause, written=stamps.was_written)
        finally:
            current_stamps.reset(reset)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _exchange(self, send: Send, value: TokenValue, stamps: Stamps) -> Outcome:
        # A whole address is parsed once; a path, a base and parameters would be four times.
        request = self._client.build_request(send.operation.method, f"{self._base}{send.operation.path}{_query(send)}")
        response = await self._client.send(request, auth=TokenAuth(value), stream=True, follow_redirects=False)
        stamps.answered(time.monotonic())
        try:
            body = await _read(response, send.operation.max_answer_bytes)
        except _TooLarge:
            return Garbled(f"the upstream's answer is larger than {send.operation.max_answer_bytes} bytes", response.status_code)
        finally:
            # An unread rest makes the connector drop the connection.
            await response.aclose()
        scrubber = Scrubber(value)
        if finds := _echoes(scrubber, response.headers.multi_items(), body):
            _report_echo(send, finds)
            stamps.echoed(finds)
        lists_ids, now = bool(send.operation.parameters), datetime.now(UTC)
        return classify(response.status_code, response.headers.multi_items(), body, scrubber, now, lists_ids=lists_ids)


def open_upstream(base_url: str, limits: TimeLimits | None = None) -> Upstream:
    """The upstream at a base URL, TLS verified against the system's authorities; the environment's proxies are not used."""
    within = limits or TimeLimits()
    client = httpx2.AsyncClient(
        base_url=base_url,
        transport=stamping_transport(ssl.create_default_context()),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        timeout=httpx2.Timeout(within.read, connect=within.connect, pool=within.connect),
        trust_env=False,
        follow_redirects=False,
    )
    # Set afterwards: given to the constructor they would join the library's own.
    client.headers = httpx2.Headers(_headers())
    return Upstream(client, within.whole)


def _headers() -> dict[str, str]:
    """Every header of every request, but for `Host` and the token's own."""
    return {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": USER_AGENT}


def _query(send: Send) -> str:
    if not send.operation.parameters:
        return ""
    name, ids = send.parameter.name, [str(one) for one in send.ids]
    return "?" + urlencode([(name, one) for one in ids] if send.parameter.explode else [(name, ",".join(ids))])


async def _read(response: httpx2.Response, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise _TooLarge
    return bytes(body)


def _echoes(scrubber: Scrubber, headers: Sequence[tuple[str, str]], body: bytes) -> int:
    """How often the token's value stands in an answer, its headers included."""
    said = "\n".join([*(f"{name}: {field}" for name, field in headers), readable(body)])
    return scrubber.scrub(said)[1]


def _report_echo(send: Send, finds: int) -> None:
    log.error(
        "the upstream's answer held the token's value; it was taken out",
        token=send.token.name,
        finds=finds,
        send_id=send.id,
        request_id=send.calls[0].request_id,
    )


def _failure(cause: BaseException, *, written: bool) -> Outcome:
    """What a failure means. `cause` is not httpx2's exception: the transport gives some resets the name of a time-out."""
    name = type(cause).__name__
    if not written:
        return Unreachable(f"no connection to Flxpoint ({name})", uncertain=False)
    if isinstance(cause, TimeoutError):
        return TimedOut("Flxpoint gave no whole answer in time")
    if isinstance(cause, aiohttp.ClientResponseError):
        return Garbled("Flxpoint's answer is not HTTP", None)
    return Unreachable(f"the connection to Flxpoint broke before its whole answer came ({name})", uncertain=True)
