"""Answers that come later than their request: `202` with a job, or the answer itself if it comes while the caller waits."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from app.api.hangup import HangUpWatch
from app.api.jobs import job_response
from app.api.preferences import Preferences
from app.api.services import Services
from app.deferring import Deferred
from app.domain import Asked
from app.gateway import Answer

__all__ = ["answered_later"]


async def answered_later(request: Request, services: Services, asked: Asked, preferences: Preferences) -> Answer | Response:
    """Take a call in as a job, and wait for its answer as long as the caller prefers.

    Returns:
        Its answer or refusal, or the response where that isn't one of a call. A caller that hangs up leaves the job behind.
    """
    taken = await services.deferral.take(asked)
    if isinstance(taken, Answer):
        return taken
    with HangUpWatch(request):
        answer = await _awaited(taken, preferences.wait)
        if answer:
            return answer
    job = await services.jobs.job(asked.caller, taken.job.id)
    return job_response(job, {"Preference-Applied": preferences.applied_later})


async def _awaited(taken: Deferred, seconds: float) -> Answer | None:
    return await taken.answer_within(seconds) if seconds else None
