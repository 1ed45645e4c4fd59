"""Calls that are more than one request: answered later, or asked for again with the same key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from app.api.hangup import CLIENT_CLOSED_REQUEST, HangUpWatch
from app.api.idempotency import REPLAYED, kept_of, key_of_call
from app.api.jobs import job_response
from app.api.preferences import Preferences
from app.api.services import Services
from app.deferring import Deferred
from app.domain import Asked
from app.errors import GatewayError
from app.gateway import Answer
from app.jobs import Job
from app.jobs.idempotency import KeptAnswer, Key
from app.repeating import Made

__all__ = ["Later"]


@dataclass(frozen=True, slots=True)
class Later:
    """One request for such a call; `respond` makes the response of an answer."""

    request: Request
    services: Services
    asked: Asked
    preferences: Preferences
    respond: Callable[[Answer], Response]

    async def answer(self, keys: Sequence[str]) -> Response:
        """Answer the request, whose header `Idempotency-Key` has these values. What is wrong with its key is on record as any refusal."""
        try:
            key = key_of_call(keys, self.asked) if keys else None
            if self.preferences.respond_async or key is None:
                return await self._defer(key)
            return await self._once(key)
        except GatewayError as error:
            return self.respond(await self.services.gateway.refuse(self.asked, error))

    async def _defer(self, key: Key | None) -> Response:
        """A job; or the answer, if it comes while the caller waits. A caller that hangs up leaves the job behind."""
        taken = await self.services.deferral.take(self.asked, key)
        if not isinstance(taken, Deferred):
            return await self._given(taken)
        with HangUpWatch(self.request) as watch:
            answer = await taken.answer_within(self.preferences.wait) if self.preferences.wait else None
        if watch.hung_up:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        if answer:
            return self.respond(answer)
        return await self._job(taken.job, {"Preference-Applied": self.preferences.applied_later})

    async def _once(self, key: Key) -> Response:
        """The answer of the first request with the key, be it this one."""
        with HangUpWatch(self.request) as watch:
            taken = await self.services.repeats.call(key, self.asked, lambda answer: kept_of(self.respond(answer)))
        return Response(status_code=CLIENT_CLOSED_REQUEST) if watch.hung_up else await self._given(taken)

    async def _given(self, taken: Answer | KeptAnswer | Made) -> Response:
        """The answer of this request; or what the first was given: its answer, or its job as it is now."""
        match taken:
            case KeptAnswer(status, headers, body):
                return Response(body, status, {**headers, **REPLAYED})
            case Made(job):
                return await self._job(job, REPLAYED)
            case Answer():
                return self.respond(taken)

    async def _job(self, job: Job, headers: Mapping[str, str]) -> Response:
        return job_response(await self.services.jobs.seen(job), headers)
