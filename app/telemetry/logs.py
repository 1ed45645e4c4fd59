"""Logs: structured lines on standard error, as JSON for collectors or in colour for people."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress

import structlog

__all__ = ["configure_logs"]

QUIET = {
    "httpx2": logging.WARNING,  # it logs every URL
    "httpcore2": logging.WARNING,
    "slowapi": logging.ERROR,  # a refused caller would write a line for each refusal
    "alembic": logging.WARNING,
    "uvicorn.access": logging.CRITICAL,  # the frame logs requests, without their query
    "aiosqlite": logging.WARNING,
    "asyncio": logging.WARNING,
}


def configure_logs(level: str, *, as_json: bool) -> None:
    """Set the process's logging up, once, at the start.

    Args:
        level: the least severe level that is shown.
        as_json: one JSON object a line; otherwise lines for people.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers = _renderers(as_json=as_json)
    # Our own lines are rendered and written at once; the standard library's way costs four times as much, at every request.
    structlog.configure(
        processors=[*shared, *renderers],
        logger_factory=_NamedWriter,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[strip, *renderers], foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)


class _NamedWriter(structlog.WriteLogger):
    """Writes lines to standard error, as far as it takes them, and has the name that `add_logger_name` asks for."""

    def __init__(self, name: str = "") -> None:
        super().__init__(sys.stderr)
        self._write, self._flush = _going_on(self._write), _going_on(self._flush)
        self.name = name


def _going_on(write: Callable[..., object]) -> Callable[..., None]:
    """The same, but what can't be written is lost: a disk that is full of logs mustn't end the work that they tell of."""

    def attempt(*text: str) -> None:
        with suppress(OSError):
            write(*text)

    return attempt


def _renderers(*, as_json: bool) -> list[structlog.typing.Processor]:
    if as_json:
        # No locals in tracebacks: they could hold what must not be written down.
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)]
