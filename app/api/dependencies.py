"""What routes depend on: the services, and the caller within the gateway's own limit."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request
from limits import parse
from starlette.types import Scope

from app.api.counting import Count
from app.api.failures import FailureLimit
from app.api.services import Services
from app.callers import Presented
from app.domain import Caller, CredentialKind
from app.errors import CredentialsMissing, Unauthenticated

__all__ = ["CallerLimit", "KnownCaller", "TheServices"]

PROVING = (b"authorization", b"x-api-token", b"origin", b"host")
TICKETS_PART = 10
"""One ticket gets one part in so many of its caller's rate."""


# `async`, as all dependencies here: FastAPI runs the others in a thread, which costs more than they do.
async def services_of(request: Request) -> Services:
    """The services of the application that the request is for."""
    return cast("Services", request.app.state.services)


async def known_caller(request: Request) -> Caller:
    """The caller, proven by its credential, while it keeps to its rate, from a page that may call in its name.

    Every request counts on the rate, also one that is refused for its page.

    Raises:
        CredentialsMissing, CredentialsInvalid, UpstreamTokenPresented, CallerRateExceeded, OriginNotAllowed
        TokenUnavailable: it has a JWT, and the identity provider's keys are not known yet.
    """
    services: Services = request.app.state.services
    presented = _presented(request.scope)
    caller = await _authenticated(request, presented)
    request.scope["state"]["caller"] = caller
    limit: CallerLimit = request.app.state.caller_limit
    await limit.hit(request)
    services.origins.check(caller, presented.origins, presented.host)
    return caller


async def _authenticated(request: Request, presented: Presented) -> Caller:
    services: Services = request.app.state.services
    try:
        return await services.callers.authenticate(presented)
    except CredentialsMissing:
        # Nothing was tried.
        raise
    except Unauthenticated:
        failures: FailureLimit = request.app.state.failure_limit
        await failures.hit(request)
        raise


def _presented(scope: Scope) -> Presented:
    """What counts of the headers, found in one pass."""
    found: dict[bytes, list[str]] = {name: [] for name in PROVING}
    for name, value in scope["headers"]:
        if name in found:
            found[name].append(value.decode("latin-1"))
    client = scope.get("client")
    return Presented(
        authorization=found[b"authorization"],
        x_api_token=found[b"x-api-token"],
        address=client[0] if client else None,
        origins=found[b"origin"],
        host=next(iter(found[b"host"]), None),
    )


TheServices = Annotated[Services, Depends(services_of)]
KnownCaller = Annotated[Caller, Depends(known_caller)]


class CallerLimit:
    """The gateway's own limit on each caller, kept by slowapi in memory, and on each ticket: a tenth of its caller's.

    A ticket counts for itself first, so that a visitor who goes on beyond that leaves the rest to the backend and to other visitors.

    There is a count for each rate: a decorator of slowapi's that is told the rate at each request parses it at each request.

    Args:
        default_rate: for callers that have none of their own, such as `100/second`.
    """

    def __init__(self, default_rate: str) -> None:
        self._default_rate = default_rate
        self._callers: dict[str, Count] = {}
        self._tickets: dict[str, Count] = {}

    def rate_of(self, caller: Caller) -> str:
        """The limit on a caller, in slowapi's syntax."""
        return caller.rate or self._default_rate

    async def hit(self, request: Request) -> None:
        """Count one request of the caller in `request.state.caller`, unless it is one too many of its ticket.

        Raises:
            CallerRateExceeded
        """
        caller: Caller = request.state.caller
        rate = self.rate_of(caller)
        if rate not in self._callers:
            self._callers[rate] = Count(rate, "the gateway takes {limit} from this caller")
            self._tickets[rate] = Count(_tenth_of(rate), "the gateway takes {limit} from this ticket")
        if caller.credential is CredentialKind.TICKET:
            await self._tickets[rate].hit(request, caller.credential_id)
        await self._callers[rate].hit(request, caller.id)


def _tenth_of(rate: str) -> str:
    """At least one request in the rate's own time."""
    whole = parse(rate)
    return str(type(whole)(max(1, whole.amount // TICKETS_PART), whole.multiples))
