"""The HTTP protocol, with what uvicorn's own lacks: bounds in bytes and in time, well-formed heads only, and one write an answer."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.wellformed import NoTrailers, check_head

__all__ = ["BoundedProtocol", "JoinedWrites"]

MOST_HEAD_BYTES = 80 * 1024  # 64 KiB of headers, the request line, and what one read may bring beyond them
HEAD_SECONDS = 10.0
BODY_SECONDS = 10.0
STUCK_SECONDS = 10.0
MOST_HELD_BYTES = 64 * 1024
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BoundedProtocol(HttpToolsProtocol):
    """Refuses heads that are too large (80 KiB) with 431, too slow with 408, and not well-formed with 400.

    A head must be whole 10 s after its first byte, or the connection. These are plain answers without a problem: nothing is known of the
    request yet. A connection whose body isn't whole 10 s after its head ends with the answer. One that is to end, by itself or with the
    server, isn't waited for where its peer takes nothing for 10 s.
    """

    head_seconds = HEAD_SECONDS
    body_seconds = BODY_SECONDS
    stuck_seconds = STUCK_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they come
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._deaf = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        self._writes = JoinedWrites(transport, self.loop, self.stuck_seconds)
        super().connection_made(cast("asyncio.Transport", self._writes))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        if self._body_timer:
            self._body_timer.cancel()
        super().connection_lost(exc)
        self._writes.end()

    def shutdown(self) -> None:
        """End with the answer that is under way; its peer has to read it."""
        super().shutdown()
        self._writes.insist()

    def data_received(self, data: bytes) -> None:
        """Parse, and count what belongs to a head that isn't whole yet."""
        if self._deaf or self.transport.is_closing():
            return
        if self._in_head:
            # Before it is parsed: what ends a body in this read belongs to no head.
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._await_head()
        super().data_received(data)
        if self._in_head:
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(TOO_LARGE)
        elif self._body_timer is None:
            self._body_timer = self.loop.call_later(self.body_seconds, self._end_with_the_answer)

    def on_message_begin(self) -> None:
        """Wait for the rest of a head that begins in the same read as the end of what came before."""
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole.

        Raises:
            Malformed: it isn't well-formed. The parser stops there, and uvicorn answers 400.
        """
        upgrade = self.parser.should_upgrade()
        check_head(self.parser.get_http_version(), self.url, self.headers, upgrade=upgrade)
        self._in_head = False
        self._head_bytes = 0
        self._stop_waiting()
        super().on_headers_complete()
        self.headers = NoTrailers()
        if upgrade or self.expect_100_continue:
            # An upgrade is declined (RFC 9110, section 7.8), but the parser reads nothing more. A client that waits for `100 Continue`
            # sends its body or doesn't (section 10.1.1), so nobody could say what comes next.
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The next byte begins the next head."""
        self._in_head = True
        if self._body_timer:
            self._body_timer.cancel()
            self._body_timer = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what isn't HTTP."""
        if not self._ends_with_an_earlier_answer():
            super().send_400_response(msg)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._refuse, TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_with_the_answer(self) -> None:
        """The body is too slow: whoever reads it says so; where nobody does, the connection must not be held for it."""
        self.cycle.keep_alive = False
        if self.cycle.response_complete:
            self.transport.close()

    def _refuse(self, answer: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing() and not self._ends_with_an_earlier_answer():
            self.transport.write(answer)
            self.transport.close()

    def _ends_with_an_earlier_answer(self) -> bool:
        """Whether a refusal would stand in the place or the middle of an earlier answer; then the connection ends with that."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        if not cycle.more_body:
            # What came before was whole and is answered; nothing is read after it.
            self._deaf = True
            cycle.keep_alive = False
            return True
        if cycle.response_started or self.pipeline:
            self.transport.close()
            return True
        return False


class JoinedWrites:
    """A transport that writes what is given in one turn of the loop together, 64 KiB at most.

    uvicorn writes an answer's head and body apart, and uvloop passes each on at once: two packets, for which the caller wakes up twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, stuck_seconds: float = STUCK_SECONDS) -> None:
        self._transport = transport
        self._loop = loop
        self._stuck_seconds = stuck_seconds
        self._held = bytearray()
        self._written = 0
        self._look: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        """Write at the end of this turn."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held += data
        if len(self._held) >= MOST_HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            self._transport.write(bytes(self._held))
            self._written += len(self._held)
            self._held.clear()

    def close(self) -> None:
        """Close, after what is held was written, and as long as the peer reads."""
        self.flush()
        self._transport.close()
        self.insist()

    def insist(self) -> None:
        """From now on abort the connection where its peer takes nothing, for so long, of what waits for it: it would never end."""
        if self._look is None:
            self._look_again()

    def end(self) -> None:
        """The connection is lost: look at it no more."""
        if self._look:
            self._look.cancel()

    def _look_again(self) -> None:
        self._look = self._loop.call_later(self._stuck_seconds, self._abort_if_stuck, self._taken())

    def _abort_if_stuck(self, before: int) -> None:
        if self._transport.get_write_buffer_size() and self._taken() == before:
            self._transport.abort()
        else:
            self._look_again()

    def _taken(self) -> int:
        """How many bytes the peer has taken: the kernel holds megabytes for it that it hasn't."""
        return self._written - self._transport.get_write_buffer_size() - _unacknowledged(self._transport.get_extra_info("socket"))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        """All else is the transport's own."""
        return getattr(self._transport, name)


def _unacknowledged(connection: socket.socket | None) -> int:
    """How many bytes the kernel holds for the peer; 0 where it doesn't tell."""
    if connection is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        # Not of this kind of socket; what the process itself holds counts then.
        return 0
