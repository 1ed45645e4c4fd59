"""Whether a server can be reached: a connection, with TLS where its address says so, and not a byte of HTTP."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

__all__ = ["NotReached", "reach"]

PORTS = {"https": 443, "http": 80}
WITHIN_SECONDS = 5.0


class NotReached(Exception):
    """There is no connection; the message says why."""


async def reach(url: str, within: float = WITHIN_SECONDS) -> str:
    """Connect to an address as sends do (TLS verified against the system's authorities, no proxy), and hang up.

    Args:
        url: its scheme, host and port count.
        within: seconds it may take.

    Returns:
        Where the connection led, and its TLS version.

    Raises:
        NotReached
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    context = ssl.create_default_context() if parts.scheme == "https" else None
    try:
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except TimeoutError as error:
        message = f"{host}:{port} doesn't answer within {within:g} s"
        raise NotReached(message) from error
    except (OSError, UnicodeError) as error:
        # The latter where the name can't be one in the DNS, such as one with an empty label.
        message = f"{host}:{port}: {_reason(error)}"
        raise NotReached(message) from error
    tls = writer.get_extra_info("ssl_object")
    writer.transport.abort()
    return f"{host}:{port} answers, {tls.version() if tls else 'without TLS'}"


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "this is no host's name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate isn't valid: {error.verify_message}"
    return error.strerror or str(error)
