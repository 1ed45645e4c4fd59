"""The measure for refusals and memory: bare FastAPI routes under the gateway's own server settings. `python -m benchmarks.bare PORT`."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from app.cli.serving import gateway_config
from benchmarks.processes import Child, free_address, spawned

__all__ = ["bare_app", "bared"]


def bare_app() -> FastAPI:
    """An application of two routes: one refuses every call, and does nothing else; one lets every call wait, until it hangs up."""
    app = FastAPI(openapi_url=None)

    @app.patch("/orders/link")
    async def refuse() -> JSONResponse:
        return JSONResponse({"detail": "no"}, 400)

    @app.patch("/waiting")
    async def wait(request: Request) -> JSONResponse:
        turn = asyncio.ensure_future(asyncio.get_running_loop().create_future())
        watching = asyncio.ensure_future(_hang_up(request))
        try:
            await asyncio.wait({turn, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            turn.cancel()
            watching.cancel()
        return JSONResponse([])

    return app


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@contextmanager
def bared(folder: Path) -> Iterator[Child]:
    """The process, while the context lasts."""
    address = free_address()
    with spawned(["-m", "benchmarks.bare", str(address.port)], address, folder / "bare.log") as child:
        yield child


def main(port: int) -> None:
    """Serve until SIGTERM, with the collector set as the gateway sets it."""
    config = gateway_config(bare_app(), host="127.0.0.1", port=port, grace=0)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main(int(sys.argv[1]))
