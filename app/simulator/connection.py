"""The socket under a request: what a fault can do to it, and when the request arrived on it."""

import socket
import struct
from asyncio import Transport
from dataclasses import dataclass
from typing import Final

EXTENSION: Final = "flxpoint.simulator"
"""The key in an ASGI scope's `extensions` under which `protocol` passes `{"connection": Connection(...)}`."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class NoSocketError(RuntimeError):
    """A fault needs the socket, but the simulator isn't served by `server_config`."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection at the moment a request's head was complete, `arrived` in the simulator's clock."""

    arrived: float
    transport: Transport

    def reset(self) -> None:
        """Drop the connection so that the client sees a reset (RST), whatever was still to be sent."""
        if not self.transport.is_closing():
            # Closing with a zero linger time makes the kernel send RST where it would send FIN: socket(7).
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()

    def blurt(self, raw: bytes) -> None:
        """Write `raw` past all HTTP framing and close."""
        self.transport.write(raw)
        self.transport.close()
