"""Who makes a change over HTTP, with which request of theirs."""

from __future__ import annotations

from starlette.requests import Request

from app.api.traces import trace_id_of
from app.domain import Actor, Caller

__all__ = ["actor_of"]


def actor_of(request: Request, caller: Caller) -> Actor:
    """The caller that makes this request, as the record has it."""
    return Actor(
        by=f"caller:{caller.name}",
        request_id=request.state.request_id,
        trace_id=trace_id_of(request.headers.getlist("traceparent")),
        credential_id=caller.credential_id,
        address=request.client.host if request.client else None,
    )
