"""Logs: structured lines on standard error, as JSON for collectors or in colour for people."""

from __future__ import annotations

import logging
import sys

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
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_renderers(as_json=as_json), foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)


def _renderers(*, as_json: bool) -> list[structlog.typing.Processor]:
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if as_json:
        # No locals in tracebacks: they could hold what must not be written down.
        return [strip, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    return [strip, plain]
