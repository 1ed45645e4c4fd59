"""`STATE_DIR/control.sock`: where commands of this machine reach the running server."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import structlog
import uvicorn
from starlette.types import ASGIApp

from app.api.control import ControlProtocol
from app.cli.serving import in_background

__all__ = ["control_path", "controlled", "fits"]

LONGEST_PATH_BYTES = 107  # unix(7): 108 with the zero at the end
END_SECONDS = 2

log = structlog.get_logger(__name__)


def control_path(state_dir: Path) -> Path:
    """Where the socket of a state folder is."""
    return state_dir / "control.sock"


def fits(path: Path) -> str | None:
    """Why a socket can't have this path; None where it can."""
    length = len(os.fsencode(path))
    return None if length <= LONGEST_PATH_BYTES else f"its path has {length} bytes, and a Unix socket's may have {LONGEST_PATH_BYTES}"


@asynccontextmanager
async def controlled(path: Path, control: ASGIApp) -> AsyncIterator[None]:
    """Take commands at a socket while the context lasts.

    Where the socket can't be made, the gateway goes on without it and a warning says why: calls matter more than commands.
    """
    try:
        listening = _listening(path)
    except OSError as error:
        log.warning("commands can't reach this server: the socket can't be made", socket=str(path), reason=_reason(path, error))
        yield
        return
    config = uvicorn.Config(
        control,
        http=ControlProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_SECONDS,
    )
    async with in_background(config, listening):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # noqa: ASYNC240 - a local folder's entry


def _listening(path: Path) -> socket.socket:
    """A socket that only its owner may open, from its first moment.

    Raises:
        OSError: it can't be made.
    """
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _private_files():
            listening.bind(os.fspath(path))
    except OSError:
        listening.close()
        raise
    return listening


def _remove_stale(path: Path) -> None:
    """Remove the socket that a server left which didn't end in order. There's no other server: the state folder is locked."""
    if path.is_socket():
        path.unlink()


@contextmanager
def _private_files() -> Iterator[None]:
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _reason(path: Path, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another file is in its place"
    return fits(path) or error.strerror or str(error)
