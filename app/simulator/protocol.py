"""Serving the simulator on real sockets, so that faults can reach beneath HTTP."""

from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.simulator.connection import EXTENSION, Connection
from app.simulator.simulator import Simulator


def server_config(app: FastAPI, host: str, port: int, *, keep_alive: int = 75) -> uvicorn.Config:
    """Return the uvicorn configuration that serves a simulator made by `create_simulator`.

    An idle connection is kept for `keep_alive` seconds. Under any other server the simulator works too, but a fault
    that needs the socket (`reset-before`, `reset-after`, `garbage-http`, and a `hang` of limited length) fails inside
    the app, so the client sees a 500 at best, and arrivals are stamped a little later.
    """
    return uvicorn.Config(
        app,
        host,
        port,
        http=_protocol_for(app.state.simulator),
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=1,
    )


def _protocol_for(simulator: Simulator) -> type[HttpToolsProtocol]:
    """Return a protocol that stamps each request with `simulator`'s clock; uvicorn makes one per connection."""

    class SimulatorProtocol(HttpToolsProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they come
            super().__init__(*args, **kwargs)
            # The access logger belongs to the whole process, which may serve a gateway too; this silences one server.
            self.access_log = False

        def on_headers_complete(self) -> None:
            connection = Connection(simulator.clock(), self.transport)
            self.scope["extensions"] = {EXTENSION: {"connection": connection}}
            super().on_headers_complete()

    return SimulatorProtocol
