"""The simulator as a FastAPI application."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.simulator.control import router
from app.simulator.simulator import Simulator
from app.simulator.tokens import SimulatedToken
from app.simulator.upstream import Upstream


def create_simulator(
    tokens: Sequence[SimulatedToken],
    *,
    rate: int = 2,
    clock: Callable[[], float] = time.monotonic,
    rng: random.Random | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> FastAPI:
    """Return a stand-in for the Flxpoint API that knows `tokens` and allows each `rate` arrivals a second.

    `clock` returns monotonic seconds, `rng` draws the faults' delays and choices, and `sleep` waits a latency out.
    Serve it with `server_config`, or over plain ASGI without the faults that need a socket. Its own endpoints are
    under `/_simulator/`; every other path is the upstream's.

    Raises:
        ValueError: two tokens share a name or a value, or `rate` is below 1.

    """
    simulator = Simulator(tokens, rate=rate, clock=clock, rng=rng, sleep=sleep)
    app = FastAPI(
        title="Flxpoint simulator",
        docs_url=None,
        redoc_url=None,
        openapi_url="/_simulator/openapi.json",
    )
    app.state.simulator = simulator
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_refused)
    app.include_router(router)
    app.add_middleware(Upstream, simulator=simulator)
    return app


async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    """Say what is wrong with a request to the simulator's own endpoints, without echoing what it held."""
    problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
    return JSONResponse({"message": "; ".join(problems)}, 422)


async def _refused(_request: Request, error: HTTPException) -> JSONResponse:
    return JSONResponse({"message": error.detail}, error.status_code, error.headers)
