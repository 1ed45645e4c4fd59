from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

import app.jobcalls
from app.catalogue import Catalogue
from app.domain import Asked, Caller, Grant
from app.gateway import Answer
from app.jobcalls import PartCalls
from app.jobs import Job, Part, PartEnd, PartState
from app.jobs.conclusion import Verdict
from tests.jobs.rows import LINK, SERVICE, SHOP, run_of

PART = Part(job_id="job", seq=1, ids=(7, 9), state=PartState.TAKEN, call_id="call")


def unreadable() -> OperationalError:
    """What the database says where it can't be read."""
    return OperationalError("SELECT", None, OSError())


@dataclass
class Room:
    """Gateway, callers and record in one."""

    caller: Caller | None = SERVICE
    outcome: Mapping[str, Any] | None = None
    failures: int = 0
    asked: list[Asked] = field(default_factory=list)

    async def handle(self, asked: Asked) -> Answer:
        """Link all."""
        self.asked.append(asked)
        return Answer((7, 9), None)

    def resting_on(self, basis: str) -> Caller | None:
        """The one caller, if it is there."""
        assert basis == SERVICE.basis
        return self.caller

    async def outcome_of(self, _call_id: str) -> Mapping[str, Any] | None:
        """What is on record, once the database can be read."""
        if self.failures:
            self.failures -= 1
            raise unreadable()
        return self.outcome

    def calls(self, catalogue: Catalogue | None = None) -> PartCalls:
        """The calls of parts."""
        return PartCalls(self, self, catalogue or Catalogue({LINK.id: LINK}), self.outcome_of)


def job() -> Job:
    """The job that the part is of."""
    return run_of().job


async def sent(room: Room, catalogue: Catalogue | None = None) -> Verdict:
    """What comes of sending the part."""
    return await room.calls(catalogue).send(job(), PART, lambda job_id: job_id == "job")


def code(verdict: Verdict) -> str:
    """With what a part failed."""
    assert isinstance(verdict, PartEnd)
    assert verdict.state is PartState.FAILED
    assert verdict.problem is not None
    return str(verdict.problem["type"]).removeprefix("/gateway/problems/")


async def test_a_part_is_a_call_of_its_jobs_caller() -> None:
    """With the ID that stands in its row, at its job's weight, by the token's name as of now, and only while its job goes on."""
    renamed = replace(SERVICE, grants=(Grant(SHOP.id, "store"),))
    room = Room(renamed)
    verdict = await sent(room)
    [asked] = room.asked

    assert verdict == PartEnd(part=PART, state=PartState.ANSWERED, linked=(7, 9))
    assert (asked.call_id, asked.query, asked.token_names) == ("call", b"orderIds=7,9", ("store",))
    assert (asked.caller.id, asked.caller.credential_id, asked.priority) == (SERVICE.id, SERVICE.credential_id, job().priority)
    assert asked.wanted()


@pytest.mark.parametrize(
    ("caller", "problem"),
    [(None, "credentials-invalid"), (replace(SERVICE, grants=(Grant("token-9", SHOP.name),)), "token-not-granted")],
)
async def test_who_may_not_call_any_more_fails(caller: Caller | None, problem: str) -> None:
    """A caller that is gone, and a token that is: one of the same name that was added since is another."""
    room = Room(caller)

    assert code(await sent(room)) == problem
    assert not room.asked


async def test_an_operation_that_is_gone_fails_its_parts() -> None:
    """An upgrade may have taken it out of the catalogue; nothing is sent then."""
    assert code(await sent(Room(), Catalogue({}))) == "not-found"


async def test_the_record_is_asked_until_it_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What became of a part isn't guessed; and what may be repeated is the catalogue's to say."""
    monkeypatch.setattr(app.jobcalls, "RETRY_SECONDS", 0.0)
    room = Room(outcome={"code": "unknown", "uncertain": True}, failures=2)
    verdict = await room.calls().ask(job(), PART)
    gone = await room.calls(Catalogue({})).ask(job(), PART)

    assert verdict.part.uncertain
    assert not isinstance(verdict, PartEnd)
    assert code(gone) == "upstream-unreachable"


async def test_what_an_earlier_attempt_may_have_done_is_told_with_the_answer() -> None:
    """Whoever waits for the call hears that the list may lack what the lost attempt linked."""
    room = Room()
    calls = room.calls()
    called = await calls.make(job(), replace(PART, uncertain=True), calls._asked(job(), PART, lambda _: True))

    assert called.answer.result == (7, 9)
    assert called.answer.uncertain
