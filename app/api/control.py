"""The running server's own way in for commands on the same machine: an application for a Unix socket that is its owner's alone."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from app.api.admin import Resumed, shown, shown_test
from app.api.handlers import answer_in_problems
from app.api.jobs import ListedJob, listed_job, page_asked, shown_job
from app.api.protocol import BoundedProtocol
from app.api.services import Services
from app.domain import Actor
from app.jobs import Job

__all__ = ["ControlProtocol", "build_control"]

PEER_CREDENTIALS = struct.Struct("3i")  # process, user, group: unix(7), SO_PEERCRED


class ControlProtocol(BoundedProtocol):
    """Tells the application who is at the other end: `state.uid` is the user ID."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel."""
        super().connection_made(transport)
        self.app_state = self.app_state | {"uid": _uid_at(transport.get_extra_info("socket"))}


def build_control(services: Services) -> Starlette:
    """The application, to be served with `ControlProtocol`. Whoever may open its socket may do all that it offers."""

    async def lanes(_: Request) -> JSONResponse:
        return JSONResponse([lane.model_dump(mode="json") for lane in shown(await services.lanes.report())])

    async def resume(request: Request) -> JSONResponse:
        name = request.path_params["name"]
        held_back = await services.lanes.resume(name, by=_actor_of(request))
        return JSONResponse(Resumed(token=name, operations=held_back).model_dump(mode="json"))

    async def test(request: Request) -> JSONResponse:
        tested = await services.trials.run(request.path_params["name"], by=_actor_of(request), request_id=request.state.request_id)
        return JSONResponse(shown_test(tested).model_dump(mode="json"))

    async def jobs(request: Request) -> JSONResponse:
        limit, before, state = page_asked(request)
        found = await services.jobs.every(limit=limit, before=before, state=state)
        shown_jobs = [_with_caller(job, listed_job(job)) for job in found]
        return JSONResponse({"jobs": shown_jobs, "next": found[-1].id if len(found) == limit else None})

    async def job(request: Request) -> JSONResponse:
        seen = await services.jobs.look_at_anyones(request.path_params["id"])
        return JSONResponse(_with_caller(seen.job, shown_job(seen)))

    async def cancel(request: Request) -> JSONResponse:
        seen = await services.jobs.cancel_anyones(request.path_params["id"], by=_actor_of(request))
        return JSONResponse(_with_caller(seen.job, shown_job(seen)))

    async def master_keys(_: Request) -> JSONResponse:
        return JSONResponse(services.master_keys)

    routes = [
        Route("/master-keys", master_keys),
        Route("/jobs", jobs),
        Route("/jobs/{id}", job),
        Route("/jobs/{id}", cancel, methods=["DELETE"]),
        Route("/lanes", lanes),
        Route("/lanes/{name}/resume", resume, methods=["POST"]),
        Route("/tokens/{name}/test", test, methods=["POST"]),
    ]
    control = Starlette(routes=routes)
    control.state.services = services
    answer_in_problems(control)
    return control


def _with_caller(job: Job, shown: ListedJob) -> dict[str, Any]:
    """A job as the API shows it, and whose it is."""
    return {"id": job.id, "caller": job.caller} | shown.model_dump(mode="json")


def _actor_of(request: Request) -> Actor:
    return Actor(by=f"control:{request.state.uid}", request_id=request.state.request_id)


def _uid_at(connection: socket.socket) -> int:
    """The user at the other end. Where the kernel doesn't tell, the socket's owner, since nobody else may open it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getuid()
    _, uid, _ = PEER_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size))
    return int(uid)
