"""What the API needs of the house, handed over when the application starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from app.administration import Administration
from app.audit import Page, Story, Wanted
from app.callers import Presented, TicketAsked
from app.deferring import Deferral
from app.dispatch import LaneReport
from app.domain import Actor, Caller, PageTicket, TokenRef
from app.gateway import Gateway
from app.joboffice import BatchAsked, JobSeen
from app.jobs import Follower, Job, JobState, Part
from app.jobs.idempotency import Key
from app.repeating import Repeats
from app.trial import Tested

__all__ = ["Readiness", "Services"]


class Callers(Protocol):
    """Who knows the callers."""

    async def authenticate(self, presented: Presented) -> Caller: ...

    def still_lets_in(self, caller: Caller, address: str | None) -> bool: ...


class Origins(Protocol):
    """Whose pages may call."""

    def known(self, origin: str) -> bool: ...

    def check(self, caller: Caller, given: Sequence[str], host: str | None) -> None: ...


class Tokens(Protocol):
    """Who knows the tokens, but for their values."""

    def token(self, token_id: str) -> TokenRef | None:
        """The token of that ID, if there is one."""

    def is_value(self, text: str) -> bool:
        """Whether a text is a token's value, which must stand nowhere in the open."""


class Tickets(Protocol):
    """Where backends get tickets for their pages."""

    async def issue(
        self, caller: Caller, asked: TicketAsked, *, request_id: str, trace_id: str | None, address: str | None
    ) -> tuple[PageTicket, str]: ...


class Refusals(Protocol):
    """Where requests are counted that were refused before they became calls."""

    def count_refusal(self, *, address: str | None, caller: str | None, code: str) -> None: ...


class Readiness(Protocol):
    """Whether traffic should come here."""

    def reasons(self) -> list[str]:
        """Why not; empty when ready."""


class Lanes(Protocol):
    """What operators see of the lanes and do to them."""

    async def report(self) -> list[LaneReport]: ...

    async def resume(self, name: str, *, by: Actor) -> list[str]: ...


class Trials(Protocol):
    """Who tests tokens."""

    async def run(self, name: str, *, by: Actor, request_id: str) -> Tested: ...


class Records(Protocol):
    """Who reads the record."""

    async def page(self, wanted: Wanted, *, limit: int, cursor: str | None = None) -> Page: ...

    async def story(self, reference: str) -> Story: ...


class Jobs(Protocol):
    """Who takes jobs."""

    async def take_batch(self, caller: Caller, asked: BatchAsked, by: Actor, *, origin: str | None, key: Key | None = None) -> JobSeen: ...

    async def job(self, caller: Caller, job_id: str) -> Job: ...

    async def look(self, caller: Caller, job_id: str) -> JobSeen: ...

    async def seen(self, job: Job) -> JobSeen: ...

    async def glance(self, caller: Caller, job_id: str) -> JobSeen: ...

    async def jobs(self, caller: Caller, *, limit: int, before: str | None, state: JobState | None = None) -> list[Job]: ...

    async def finished(self, caller: Caller, job_id: str) -> Job: ...

    async def parts(self, job: Job, *, after: int) -> list[Part]: ...

    async def cancel(self, caller: Caller, job_id: str, by: Actor) -> JobSeen: ...

    def told_apart(self, job: Job) -> bool: ...

    async def every(self, *, limit: int, before: str | None, state: JobState | None) -> list[Job]: ...

    async def look_at_anyones(self, job_id: str) -> JobSeen: ...

    async def cancel_anyones(self, job_id: str, *, by: Actor) -> JobSeen: ...


class Following(Protocol):
    """Where jobs are followed."""

    def follow(self, job: Job, ends_in: float | None, *, seen: str | None) -> AbstractContextManager[Follower]: ...


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators; waits in seconds.

    `administration` makes changes as somebody; `heed_changes` has this process keep to them at once, and
    tells whether it could. `master_keys` are the IDs of those that are here. `operations` are those
    that may be granted.
    """

    gateway: Gateway
    callers: Callers
    origins: Origins
    tokens: Tokens
    tickets: Tickets
    refusals: Refusals
    readiness: Readiness
    lanes: Lanes
    trials: Trials
    records: Records
    jobs: Jobs
    deferral: Deferral
    repeats: Repeats
    following: Following
    administration: Callable[[Actor], Administration]
    heed_changes: Callable[[], Awaitable[bool]]
    master_keys: list[str]
    operations: frozenset[str]
    default_wait: float
    max_wait: float
