from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

import app.jobcalls
from app.audit import OutcomeMissing
from app.catalogue import Catalogue
from app.domain import Asked, Caller, Grant
from app.gateway import Answer
from app.jobcalls import LOOKS_AT_ONCE, PartCalls
from app.jobs import Job, Part, PartEnd, PartState
from app.jobs.conclusion import Verdict
from tests.jobs.rows import DAY, LINK, SERVICE, SHOP, at, run_of

PART = Part(job_id="job", seq=1, ids=(7, 9), state=PartState.TAKEN, call_id="call")


def unreadable() -> OperationalError:
    """What the database says where it can't be read."""
    return OperationalError("SELECT", None, OSError())


@dataclass
class Room:
    """Gateway, callers and record in one."""

    caller: Caller | None = SERVICE
    outcome: Mapping[str, Any] | None = None
    failures: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None
    looking: int = 0
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
        self.looking += 1
        if self.gate:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop()
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


def goes_on(_job_id: str) -> bool:
    """The job isn't halted."""
    return False


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
    monkeypatch.setattr(app.jobcalls, "LOOK_SECONDS", 0.0)
    room = Room(outcome={"code": "unknown", "uncertain": True}, failures=[unreadable(), OutcomeMissing("call")])
    verdict = await room.calls().ask(job(), PART, goes_on)
    gone = await room.calls(Catalogue({})).ask(job(), PART, goes_on)

    assert verdict.part.uncertain
    assert not isinstance(verdict, PartEnd)
    assert code(gone) == "upstream-unreachable"


@pytest.mark.parametrize("failure", [OutcomeMissing("call"), unreadable()])
@pytest.mark.parametrize("halted", [True, False])
async def test_a_part_whose_end_can_never_be_read_ends(
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    halted: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """When its job expires, or a while after that is cancelled: it has failed, and more may have been linked than is known."""
    monkeypatch.setattr(app.jobcalls, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(app.jobcalls, "PATIENCE_SECONDS", 0.05)
    room = Room(failures=[failure] * 1_000)
    lasting = job() if halted else replace(job(), expires_at=at(timedelta()))
    end = await room.calls().ask(lasting, PART, lambda _: halted)

    assert code(end) == "upstream-unreachable"
    assert isinstance(end, PartEnd)
    assert end.uncertain


async def test_a_part_of_a_job_that_expired_meanwhile_is_looked_for_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end may stand on record in a moment: whoever starts has yet to write it."""
    monkeypatch.setattr(app.jobcalls, "LOOK_SECONDS", 0.0)
    room = Room(outcome={"code": "ok", "linked_ids": ["7"]}, failures=[OutcomeMissing("call")] * 3)
    end = await room.calls().ask(replace(job(), expires_at=at(-DAY)), PART, lambda _: True)

    assert end == PartEnd(part=PART, state=PartState.ANSWERED, linked=(7,))


async def test_a_few_look_into_the_record_at_a_time() -> None:
    """However many parts are looked for: its reader takes in few, and others read too."""
    room = Room(outcome={"code": "not-sent"}, gate=asyncio.Event())
    calls = room.calls()
    asking = [asyncio.create_task(calls.ask(job(), PART, goes_on)) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    looking = room.looking
    assert room.gate
    room.gate.set()
    await asyncio.gather(*asking)

    assert looking == LOOKS_AT_ONCE


async def test_what_an_earlier_attempt_may_have_done_is_told_with_the_answer() -> None:
    """Whoever waits for the call hears that the list may lack what the lost attempt linked."""
    room = Room()
    calls = room.calls()
    called = await calls.make(job(), replace(PART, uncertain=True), calls._asked(job(), PART, lambda _: True))

    assert called.answer.result == (7, 9)
    assert called.answer.uncertain
