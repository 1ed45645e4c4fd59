"""What keys stand for: their rows, what is kept of answers, and what a `kill -9` leaves of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.audit import OutcomeMissing
from app.catalogue import load_catalogue
from app.domain import Operation
from app.errors import Conflict, IdempotencyMismatch, UpstreamUnreachable
from app.gateway import Answer, Asked
from app.jobs.idempotency import KeptAnswer, Key, KeyStore, Use, is_kept, left_on_record
from app.repeating import Repeats, _Free
from app.storage import reading, writing
from app.storage.tables import idempotency
from tests import loopback
from tests.cli.processes import Process, until
from tests.jobs.rows import SERVICE, at
from tests.kills.stage import FIRST_ORDER, TOKENS, Stage, kill, staged
from tests.storage.database import opened

KEY = Key("caller", "k" * 64, "f" * 64)
ANSWER = KeptAnswer(200, {"Content-Type": "application/json"}, "[1]")
LONG_AGO = "2020-01-01T00:00:00.000000+00:00"
OUTCOME = {"code": "ok", "token": "shop", "attempts": 1, "uncertain": False, "request_id": "r", "linked_ids": ["1", "9223372036854775807"]}
NAME = next(iter(TOKENS))


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A migrated database."""
    async with opened(database) as made:
        yield made


async def rows(engine: AsyncEngine) -> int:
    """How many keys there are."""
    async with reading(engine) as connection:
        return int((await connection.execute(select(func.count()).select_from(idempotency))).scalar_one())


async def test_a_key_stands_for_what_it_was_taken_for(engine: AsyncEngine) -> None:
    """It has the call or the job, whether an attempt was lost before, and the answer once that is kept."""
    store, use = KeyStore(), Use(call_id="c", uncertain=True)
    async with writing(engine) as connection:
        before = await store.use(connection, KEY)
        await store.take(connection, KEY, use)
        taken = await store.use(connection, KEY)
        await store.keep(connection, KEY, use, ANSWER)
        answered = await store.use(connection, KEY)

    assert (before, taken) == (None, use)
    assert answered == Use("c", None, True, ANSWER)  # noqa: FBT003 - its own order


async def test_another_fingerprint_is_another_request(engine: AsyncEngine) -> None:
    """The same key with another request is refused; another caller's is not the same key."""
    store = KeyStore()
    async with writing(engine) as connection:
        await store.take(connection, KEY, Use(job_id="j"))
        other = await store.use(connection, Key("another", KEY.sha256, "e" * 64))
        with pytest.raises(IdempotencyMismatch):
            await store.use(connection, Key("caller", KEY.sha256, "e" * 64))

    assert other is None


async def test_what_another_took_isnt_touched(engine: AsyncEngine) -> None:
    """A call whose key stands for another call by now neither keeps its answer under it nor frees it."""
    store, now = KeyStore(), Use(call_id="now")
    async with writing(engine) as connection:
        await store.take(connection, KEY, now)
        await store.keep(connection, KEY, Use(call_id="before"), ANSWER)
        await store.forget(connection, KEY, Use(call_id="before"))
        found = await store.use(connection, KEY)
        await store.forget(connection, KEY, now)
        gone = await store.use(connection, KEY)

    assert (found, gone) == (now, None)


async def test_old_keys_stand_for_nothing_and_go_in_steps(engine: AsyncEngine) -> None:
    """After 24 hours a key is free, also before it is removed; at most so many are removed at once, and no young one."""
    store = KeyStore()
    async with writing(engine) as connection:
        for number in range(5):
            await store.take(connection, Key("caller", f"{number}" * 64, "f" * 64), Use(job_id="j"))
        await connection.execute(update(idempotency).values(created_at=LONG_AGO))
        await store.take(connection, KEY, Use(job_id="j"))
        free = await store.use(connection, Key("caller", "0" * 64, "e" * 64))
        swept = [await store.sweep(connection, most=2) for _ in range(4)]

    assert free is None
    assert swept == [2, 2, 1, 0]
    assert await rows(engine) == 1


async def test_a_running_gateway_removes_old_keys(engine: AsyncEngine) -> None:
    """They go while it serves, however many there are."""
    async with writing(engine) as connection:
        for number in range(1_200):
            await KeyStore().take(connection, Key("caller", str(number), "f" * 64), Use(job_id="j"))
        await connection.execute(update(idempotency).values(created_at=LONG_AGO))
    async with Repeats(engine, Waiting(), record_of(None), alone=True).kept(), asyncio.timeout(10):
        while await rows(engine):
            await asyncio.sleep(0.01)

    assert await rows(engine) == 0


@pytest.mark.parametrize(
    ("status", "attempts", "uncertain", "kept"),
    [
        (200, 1, False, True),
        (422, 1, False, True),
        (400, 0, False, False),
        (403, 0, False, False),
        (429, 0, False, False),
        (429, 3, False, False),
        (503, 0, False, False),
        (502, 2, False, False),
        (502, 2, True, True),
        (504, 1, True, True),
        (504, 0, False, False),
    ],
)
def test_what_did_something_is_kept(status: int, attempts: int, uncertain: bool, kept: bool) -> None:  # noqa: FBT001 - a table
    """An answer is kept if Flxpoint did the work, may have done it or refused it; not if it certainly did nothing."""
    assert is_kept(status, attempts=attempts, uncertain=uncertain) is kept


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({}, 200),
        ({"code": "upstream-422"}, 422),
        ({"code": "upstream-bad-request"}, 400),
        ({"code": "upstream-timeout", "uncertain": True}, 504),
        ({"code": "upstream-unreachable"}, None),
        ({"code": "queue-full", "attempts": 0}, None),
        ({"code": "not-sent", "attempts": 0}, None),
        ({"code": "unknown", "uncertain": True}, None),
        ({"code": "caller-gone", "uncertain": True}, None),
    ],
)
def test_the_record_tells_the_answer(told: dict[str, Any], status: int | None) -> None:
    """Of what is on record only that is an answer for all repetitions which would have been kept; its uncertainty is told with it."""
    answer = left_on_record(OUTCOME | told, uncertain=False)
    uncertain = "true" if told.get("uncertain") else None

    assert (answer.status if answer else None) == status
    assert answer is None or answer.headers.get("Gateway-Uncertain") == uncertain


def test_the_records_ids_are_the_answers() -> None:
    """The linked IDs are given as the first answer had them, of 64 bits, and marked where an earlier attempt was lost."""
    answer = left_on_record(OUTCOME, uncertain=True)

    assert answer
    assert answer.body == "[1,9223372036854775807]"
    assert answer.headers["Gateway-Uncertain"] == "true"


class Waiting:
    """A gateway that takes no call."""

    async def handle(self, asked: Asked) -> Answer:
        """Not to be called."""
        raise AssertionError(asked)

    def is_waiting(self, call_id: str) -> bool:
        """No call is here."""
        return not call_id


def record_of(outcome: dict[str, Any] | None) -> Any:
    """A record that says this of every call."""

    async def outcome_of(_call_id: str) -> dict[str, Any] | None:
        return outcome

    return outcome_of


def asked() -> Asked:
    """A request for one order."""
    return Asked(
        request_id="r",
        caller=SERVICE,
        operation=operation(idempotent=True),
        query=b"orderIds=1",
        has_body=False,
        token_names=(),
        wait=1.0,
        arrived=0.0,
    )


def operation(*, idempotent: bool) -> Operation:
    """An operation of the catalogue, which may be repeated or not."""
    made = next(iter(load_catalogue(Path("openapi/flxpoint.yaml"))))
    return Operation(**{name: getattr(made, name) for name in made.__slots__} | {"idempotent": idempotent})


@pytest.mark.parametrize("outcome", [None, OUTCOME | {"code": "not-sent", "attempts": 0}, OUTCOME | {"code": "queue-full", "attempts": 0}])
async def test_what_was_never_sent_is_made_anew(engine: AsyncEngine, outcome: dict[str, Any] | None) -> None:
    """A key whose call died unsent, on record or not, stands for nothing."""
    async with writing(engine) as connection:
        await KeyStore().take(connection, KEY, Use(call_id="c"))

    assert await Repeats(engine, Waiting(), record_of(outcome), alone=True).first(KEY, operation(idempotent=False)) is None


@dataclass
class Recording:
    """A gateway that puts a call on record when it is let go, and sends it if it is wanted then; a record that tells of it."""

    may_record: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    recorded: set[str | None] = field(default_factory=set)
    sent: list[str | None] = field(default_factory=list)
    answer: Answer = field(default_factory=lambda: Answer((1,), None))

    async def handle(self, asked: Asked) -> Answer:
        """Carry the call."""
        self.came.set()
        await self.may_record.wait()
        self.recorded.add(asked.call_id)
        assert asked.on_record
        asked.on_record()
        if asked.wanted():
            self.sent.append(asked.call_id)
        return self.answer

    def is_waiting(self, call_id: str) -> bool:
        """No call can be taken back."""
        return not call_id

    async def outcome_of(self, call_id: str) -> None:
        """A call that was taken in has no end."""
        if call_id in self.recorded:
            raise OutcomeMissing(call_id)


async def test_another_processs_call_runs_before_it_is_on_record(engine: AsyncEngine) -> None:
    """From the moment that one has the key, the same request is told everywhere that the first still runs; it is sent once."""
    first = Recording()
    here, there = (Repeats(engine, gateway, first.outcome_of, alone=False) for gateway in (first, Waiting()))
    calling = asyncio.create_task(here.call(KEY, asked(), lambda _: ANSWER))
    await first.came.wait()
    with pytest.raises(Conflict):
        await there.call(KEY, asked(), lambda _: ANSWER)
    first.may_record.set()
    await calling

    assert len(first.sent) == 1


async def test_a_process_that_was_held_up_before_the_record_sends_nothing(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key whose call doesn't come on record counts for nothing in the end, and the call isn't sent however late it comes there."""
    monkeypatch.setattr("app.repeating.UNRECORDED_SECONDS", 0.0)
    held_up, next_one = Recording(), Recording()
    next_one.may_record.set()
    here, there = (Repeats(engine, gateway, next_one.outcome_of, alone=False) for gateway in (held_up, next_one))
    calling = asyncio.create_task(here.call(KEY, asked(), lambda _: ANSWER))
    await held_up.came.wait()
    monkeypatch.setattr("app.repeating.UNRECORDED_SECONDS", 10.0)
    with pytest.raises(Conflict):
        await there.call(KEY, asked(), lambda _: ANSWER)
    async with writing(engine) as connection:
        await connection.execute(update(idempotency).values(created_at=at(-timedelta(seconds=11))))
    await there.call(KEY, asked(), lambda _: ANSWER)
    held_up.may_record.set()
    await calling

    assert (len(held_up.sent), len(next_one.sent)) == (0, 1)


async def test_an_answer_waits_for_the_database_for_a_moment_only(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given while the database takes no writing, and kept for repetitions as soon as that does."""
    monkeypatch.setattr("app.repeating.KEEPING_SECONDS", 0.05, raising=False)
    gateway = Recording(answer=Answer((1,), None, uncertain=True))
    repeats = Repeats(engine, gateway, gateway.outcome_of, alone=True)
    calling = asyncio.create_task(repeats.call(KEY, asked(), lambda _: ANSWER))
    await gateway.came.wait()
    async with writing(engine):
        gateway.may_record.set()
        await calling
    await repeats.finish()

    assert await repeats.first(KEY) == ANSWER


async def test_what_the_record_tells_waits_for_the_database_for_a_moment_only(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does the answer of a call whose process died, which the record has."""
    monkeypatch.setattr("app.repeating.KEEPING_SECONDS", 0.05, raising=False)
    async with writing(engine) as connection:
        await KeyStore().take(connection, KEY, Use(call_id="c"))
    repeats = Repeats(engine, Waiting(), record_of(OUTCOME), alone=True)
    async with writing(engine):
        told = await repeats.first(KEY)
    await repeats.finish()
    async with reading(engine) as connection:
        use = await KeyStore().use(connection, KEY)

    assert use
    assert told == use.answer is not None


async def test_a_key_that_couldnt_be_put_down_is_no_running_call(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the request was broken off or the database refused: whoever asks again isn't told for ever that it still runs."""
    repeats = Repeats(engine, Waiting(), record_of(None), alone=True)
    use = Use(call_id="c")

    @asynccontextmanager
    async def broken_off(_engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with writing(engine) as connection:
            yield connection
        raise asyncio.CancelledError

    monkeypatch.setattr("app.repeating.writing", broken_off)
    with pytest.raises(asyncio.CancelledError):
        await repeats._taken(KEY, _Free(), use)
    monkeypatch.undo()

    assert await repeats.first(KEY, operation(idempotent=False)) is None


async def test_what_may_have_been_done_isnt_repeated_where_that_does_harm(engine: AsyncEngine) -> None:
    """A call whose end isn't known is made anew if its operation is idempotent; else the request is told that it is uncertain."""
    async with writing(engine) as connection:
        await KeyStore().take(connection, KEY, Use(call_id="c"))
    repeats = Repeats(engine, Waiting(), record_of(OUTCOME | {"code": "unknown", "uncertain": True}), alone=False)
    anew = await repeats.first(KEY, operation(idempotent=True))
    with pytest.raises(UpstreamUnreachable) as told:
        await repeats.first(KEY, operation(idempotent=False))

    assert anew is None
    assert told.value.uncertain


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """Gateways to be killed."""
    async with staged(tmp_path) as made:
        yield made


async def link(stage: Stage, order: int, timeout: float = 30) -> httpx2.Response:  # noqa: ASYNC109 - the client's own
    """Ask for one order, with a key that is the same at each repetition."""
    headers = {"Authorization": f"Bearer {stage.keys[0]}", "Gateway-Token": NAME, "Idempotency-Key": f'"order-{order}"'}
    async with loopback.async_client(timeout=timeout) as client:
        return await client.patch(f"{stage.url}/orders/link?orderIds={order}", headers=headers)


async def ready(stage: Stage, gateway: Process) -> None:
    """Wait until the gateway takes calls."""
    await asyncio.to_thread(gateway.wait_for, f"{stage.url}/gateway/health/ready")


async def told(stage: Stage, order: int) -> httpx2.Response:
    """The answer, once the call of the dead process has its end on record."""
    async with asyncio.timeout(20):
        while (answer := await link(stage, order)).status_code == Conflict.status:
            assert answer.headers["Retry-After"] == "1"
    return answer


async def arrived(stage: Stage, count: int) -> None:
    """Wait until so many requests have reached Flxpoint."""
    await asyncio.to_thread(until, lambda: len(stage.targets()[NAME]) == count)


async def test_a_kill_between_send_and_answer(stage: Stage) -> None:
    """What was answered before the kill is answered as it was; what was under way is sent again, and the answer is marked."""
    faults = f"{stage.upstream}/_simulator/faults"
    with stage.gateway() as gateway:
        await ready(stage, gateway)
        first = await link(stage, FIRST_ORDER)
        hanging = {"kind": "latency", "back": 60.0, "holding": FIRST_ORDER + 1}
        loopback.delete(faults).raise_for_status()
        loopback.post(faults, json=[hanging]).raise_for_status()
        asking = asyncio.create_task(link(stage, FIRST_ORDER + 1))
        await arrived(stage, 2)
        running = await link(stage, FIRST_ORDER + 1)
        kill(gateway)
        with pytest.raises(httpx2.TransportError):
            await asking
    loopback.delete(faults).raise_for_status()
    with stage.gateway() as gateway:
        await ready(stage, gateway)
        answered = await told(stage, FIRST_ORDER)
        again = await told(stage, FIRST_ORDER + 1)
        repeated = await told(stage, FIRST_ORDER + 1)

    assert (running.status_code, first.json()) == (409, [FIRST_ORDER])
    assert (answered.content, answered.headers["Idempotent-Replayed"]) == (first.content, "true")
    assert (again.status_code, again.headers["Gateway-Uncertain"]) == (200, "true")
    assert "Idempotent-Replayed" not in again.headers
    assert (repeated.content, repeated.headers["Gateway-Uncertain"]) == (again.content, "true")
    assert [target.partition("=")[2] for target in stage.targets()[NAME]] == [str(FIRST_ORDER), *[str(FIRST_ORDER + 1)] * 2]
