"""The measure for local refusals: one bare FastAPI route under the gateway's own server settings. `python -m benchmarks.bare PORT`."""

from __future__ import annotations

import asyncio
import sys

import uvicorn
import uvloop
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from app.cli.serving import gateway_config

__all__ = ["bare_app"]


def bare_app() -> FastAPI:
    """An application that refuses every call, and does nothing else."""
    app = FastAPI(openapi_url=None)

    @app.patch("/orders/link")
    async def refuse() -> JSONResponse:
        return JSONResponse({"detail": "no"}, 400)

    return app


def main(port: int) -> None:
    """Serve until SIGTERM."""
    config = gateway_config(bare_app(), host="127.0.0.1", port=port, grace=0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main(int(sys.argv[1]))
