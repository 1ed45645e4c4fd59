"""The route by which a job is followed: server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.dependencies import KnownCaller, TheServices
from app.api.description import CREDENTIALS, problem_answer
from app.api.hangup import HangUpWatch
from app.api.jobs import JOBS, LOOKING, followed_job
from app.api.services import Services
from app.domain import Caller
from app.joboffice import JobSeen
from app.jobs import Follower, Snapshot

__all__ = ["EventStream", "add_event_route"]

KEEP_ALIVE_SECONDS = 15.0
SEND_SECONDS = 30.0
RETRY = b"retry: 2000\n\n"
KEEP_ALIVE = b":\n\n"
FIRST_RETRY_MS, RETRY_SPREAD_MS = 1_000, 4_000
LAST_EVENT_ID: dict[str, Any] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The ID of the last event that was had: what is newest comes only once it is other than that. After `end`: `204`.",
    "schema": {"type": "string"},
}
STREAM_ANSWER: dict[str, Any] = {
    "description": "Events `progress` and, last of all, `end`. Their data is the job as JSON, as in `GET /gateway/jobs/{job_id}` but for "
    "its failures.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
HEADERS = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]


class EventStream(Response):
    """A job's events, until its end, or until the caller hangs up or loses its right, the job goes, or the gateway shuts down.

    Args:
        services: where the job is followed, and who may.
        caller: who follows.
        seen: the job as it is.
        last: the ID of the last event that the caller had.
        keep_alive: after so many seconds without an event a comment is sent, which keeps proxies from closing the connection.
        send_seconds: who takes nothing for so long is let go.
    """

    def __init__(  # noqa: PLR0913 - what a stream is made of, and its two times
        self,
        services: Services,
        caller: Caller,
        seen: JobSeen,
        last: str | None,
        *,
        keep_alive: float = KEEP_ALIVE_SECONDS,
        send_seconds: float = SEND_SECONDS,
    ) -> None:
        super().__init__()
        self._keep_alive = keep_alive
        self._send_seconds = send_seconds
        self._services = services
        self._caller = caller
        self._seen = seen
        self._last = last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them.

        Raises:
            CallerRateExceeded, TooManyFollowers, ShuttingDown: it can't be followed; nothing was sent yet.
        """
        with (
            self._services.following.follow(self._seen.job, self._seen.ends_in, seen=self._last) as follower,
            HangUpWatch(Request(scope, receive)),
        ):
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await self._stream(follower, _address(scope), send)

    async def _stream(self, follower: Follower, address: str | None, send: Send) -> None:
        text: bytes | None = RETRY
        while text is not None:
            try:
                async with asyncio.timeout(self._send_seconds):
                    await send({"type": "http.response.body", "body": text, "more_body": True})
            except TimeoutError:
                # It takes nothing, so it can't be told either: the server closes the connection of an answer that isn't whole.
                return
            text = await self._next(follower, address)
        await send({"type": "http.response.body", "body": _retry_later(), "more_body": False})

    async def _next(self, follower: Follower, address: str | None) -> bytes | None:
        """What to send next; None where nothing more comes, or the caller may not have it any more."""
        try:
            async with asyncio.timeout(self._keep_alive):
                snapshot = await follower.newest()
        except TimeoutError:
            return KEEP_ALIVE if self._services.callers.still_lets_in(self._caller, address) else None
        if snapshot is None or not self._services.callers.still_lets_in(self._caller, address):
            return None
        return snapshot.text(_event)


async def follow_job(request: Request, services: TheServices, caller: KnownCaller, job_id: str) -> Response:
    """Follow a job of the caller's own: each time that it has got on, at most 4 times a second, it comes as an event (server-sent events).

    An event holds the whole state, so one that was missed isn't missing. After `end` the stream is over, and a client that asks again with
    that event's ID gets `204`, on which an `EventSource` asks no more.
    """
    seen = await services.jobs.glance(caller, job_id)
    last = request.headers.get("last-event-id")
    if seen.job.finished and last == Snapshot(seen.job, None).mark:
        return Response(status_code=204)
    return EventStream(services, caller, seen, last)


def add_event_route(app: FastAPI) -> None:
    """Add it."""
    responses: dict[int | str, dict[str, Any]] = {
        200: STREAM_ANSWER,
        204: {"description": "The event that `Last-Event-ID` names was the last."},
        "4XX": problem_answer(LOOKING),
        503: problem_answer(["too-many-followers", "shutting-down", "audit-unavailable"]),
    }
    app.add_api_route(
        f"{JOBS}/{{job_id}}/events",
        follow_job,
        operation_id="follow-job",
        response_class=Response,
        tags=["Jobs"],
        responses=responses,
        openapi_extra={"security": CREDENTIALS, "parameters": [LAST_EVENT_ID]},
    )


def _event(snapshot: Snapshot) -> bytes:
    kind = "end" if snapshot.job.finished else "progress"
    shown = followed_job(snapshot.job, snapshot.ends_in).model_dump_json()
    return f"event: {kind}\nid: {snapshot.mark}\ndata: {shown}\n\n".encode()


def _retry_later() -> bytes:
    """When to come back, a little different for each, so that after a restart not all come at once."""
    return f"retry: {FIRST_RETRY_MS + secrets.randbelow(RETRY_SPREAD_MS)}\n\n".encode()


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None
