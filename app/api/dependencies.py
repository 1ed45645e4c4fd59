"""What routes depend on: the services, the caller, and the gateway's own limit on callers."""

from __future__ import annotations

import time
from typing import Annotated, cast

from fastapi import Depends, Request
from slowapi import Limiter
from slowapi.errors import RateLimitExceeded

from app.api.services import Services
from app.domain import Caller
from app.errors import CallerRateExceeded

__all__ = ["KnownCaller", "TheServices", "make_limiter"]


def services_of(request: Request) -> Services:
    """The services of the application that the request is for."""
    return cast("Services", request.app.state.services)


def authenticated(request: Request) -> Caller:
    """The caller, proven by its credential.

    Raises:
        CredentialsMissing, CredentialsInvalid, UpstreamTokenPresented
    """
    headers = request.headers
    caller = services_of(request).callers.authenticate(headers.getlist("authorization"), headers.getlist("x-api-token"))
    request.state.caller = caller
    return caller


async def within_rate(request: Request, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
    """The caller, while it keeps to its rate.

    Raises:
        CallerRateExceeded
    """
    try:
        await request.app.state.limited(request=request)
    except RateLimitExceeded:
        limiter: Limiter = request.app.state.limiter
        limit, key = request.state.view_rate_limit
        resets = limiter.limiter.get_window_stats(limit, *key).reset_time
        detail = f"the gateway takes {limit} from this caller"
        raise CallerRateExceeded(detail, retry_after=max(0.0, resets - time.time())) from None
    return caller


TheServices = Annotated[Services, Depends(services_of)]
KnownCaller = Annotated[Caller, Depends(within_rate)]


def make_limiter(default_rate: str) -> tuple[Limiter, object]:
    """Slowapi's limiter, in memory, and a coroutine function that hits it for a request's caller.

    slowapi's middleware lets routes through unlimited, so it is used by its decorator, on a function that a dependency calls.
    """

    def key_of(request: Request) -> str:
        caller: Caller = request.state.caller
        return f"{caller.id} {caller.rate or default_rate}"

    def rate_of(key: str) -> str:
        return key.partition(" ")[2]

    limiter = Limiter(key_func=key_of)

    @limiter.shared_limit(rate_of, scope="caller")
    async def limited(request: Request) -> None:
        """Counts one request."""

    return limiter, limited
