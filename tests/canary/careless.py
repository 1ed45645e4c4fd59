"""Routes as a careless hand might write them one day: they have a token's value, log it, answer it, keep it, and fail with it at hand."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import structlog
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse

from app.domain import TokenValue
from app.main import house_of

__all__ = ["ROUTES", "add_careless_routes"]

ROUTES = ("/careless/log", "/careless/answer", "/careless/keep", "/careless/fail")

log = structlog.get_logger("careless")


def _value(request: Request) -> TokenValue:
    vault = house_of(request.app).vault
    return vault.open(vault.tokens[0].id)[1]


async def logs(request: Request) -> JSONResponse:
    """Logs it in every way."""
    value = _value(request)
    log.info("sending", value=value, nested={"value": [value]}, text=f"with {value}", shown=f"{value!r}")
    logging.getLogger("careless").warning("with %s and %r", value, (value,))
    return JSONResponse({})


async def answers(request: Request) -> JSONResponse:
    """Answers it."""
    value = _value(request)
    return JSONResponse({"value": str(value), "text": f"{value:>40}", "all": repr({"value": value})})


async def keeps(request: Request) -> JSONResponse:
    """Keeps it in a file, for later."""
    folder: Path = house_of(request.app).engine.url.database  # type: ignore[assignment]
    Path(folder).with_name("kept").write_bytes(pickle.dumps({"value": _value(request)}))
    return JSONResponse({})


async def fails(request: Request) -> JSONResponse:
    """Fails while it has it in plain."""
    value = _value(request)
    plain = value.reveal()
    headers = {"X-API-TOKEN": plain}
    message = f"{len(headers)} headers are too many"
    raise ValueError(message)


def add_careless_routes(app: FastAPI) -> None:
    """Add them to a running application."""
    for path, route in zip(ROUTES, (logs, answers, keeps, fails), strict=True):
        app.add_api_route(path, route)
