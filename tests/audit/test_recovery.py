"""What another process makes of one that died: every call and every send gets an end, and none gets two."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs

from app.audit import Name
from app.audit.canonical import canonical
from app.audit.chain import ADMINISTRATION, Head, Row
from app.audit.records import CallOutcome, Record, SendOutcome
from app.audit.seals import Seal
from app.audit.storing import Condition
from app.storage import Connection, Dialect, Rows, StorageError
from tests.audit.deaths import LONG_AGO, Deaths, announced, answered, ended, make_send, on, places, taken
from tests.audit.shelf import DAMAGES, damaged
from tests.calls import make_call
from tests.records import administrative
from tests.storage.database import ON_POSTGRESQL, ON_SQLITE, by_hand, hurry, locked, migrated, opened


@pytest_asyncio.fixture
async def deaths(database: str) -> AsyncIterator[Deaths]:
    """Processes on a database of their own."""
    async with opened(database) as engine, on(engine) as made:
        yield made


class Ahead(datetime):
    """The clock of a machine that is 31 s ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        """Its time."""
        return super().now(tz) + timedelta(seconds=31)

    @classmethod
    def text(cls) -> str:
        """As it stands on record."""
        return cls.now(UTC).isoformat(timespec="microseconds")


@dataclass
class Unheard:
    """A connection that is lost before it tells what a change came to."""

    connection: Connection

    @property
    def dialect(self) -> Dialect:
        """The database's."""
        return self.connection.dialect

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Carry it out, and tell only of what was read."""
        rows = self.connection.execute(sql, parameters)
        if sql.startswith("UPDATE"):
            message = "the connection is lost"
            raise StorageError(message)
        return rows

    def begin_reading(self) -> None:
        """Nothing is read so."""

    def begin_writing(self) -> None:
        """Nothing is written so."""

    def close(self) -> None:
        """It is another's."""


async def test_a_call_without_a_send_was_not_sent(deaths: Deaths) -> None:
    """Its outcome stands in the chain of who found it, names the dead process and says what the intent said."""
    call = make_call(7, 8)
    dead = await deaths.died(*taken(call))
    own = await deaths.recovered()

    (outcome,) = deaths.records("call:outcome")
    (intent,) = deaths.records("call:intent")
    assert (outcome["chain"], outcome["process"]) == (own, dead)
    assert (outcome["code"], outcome["attempts"], outcome["uncertain"]) == ("not-sent", 0, False)
    assert "send_id" not in outcome
    copied = set(intent) - {"id", "at", "name", "chain", "seq", "number"}
    assert {name: outcome[name] for name in copied} == {name: intent[name] for name in copied}


async def test_a_call_whose_last_send_has_no_end_is_unknown(deaths: Deaths) -> None:
    """It names its last send, whatever is known of those before, and counts all of them."""
    calls = [make_call(number) for number in range(4)]
    first, again, other = make_send(calls[0], calls[1]), make_send(calls[1], attempt=2), make_send(calls[2])
    await deaths.died(*taken(*calls), *announced(first), *answered(first), *announced(again, other), *answered(other), *ended(calls[3]))
    await deaths.recovered()

    found = {one["call_id"]: one for one in deaths.records("call:outcome")}
    told = [(found[call.id]["code"], found[call.id].get("send_id"), found[call.id]["attempts"]) for call in calls]
    assert told == [("ok", first.id, 1), ("unknown", again.id, 2), ("ok", other.id, 1), ("ok", None, 0)]
    assert [found[call.id]["uncertain"] for call in calls] == [False, True, False, False]


async def test_a_send_without_an_outcome_is_unknown(deaths: Deaths) -> None:
    """Also where all its calls have ended: it says which calls it carried, and nothing of whether it was written."""
    call = make_call(1)
    send, answered_one = make_send(call), make_send(call, attempt=2)
    dead = await deaths.died(*taken(call), *announced(send), *ended(call), *announced(answered_one), *answered(answered_one))
    await deaths.recovered()

    (outcome,) = [one for one in deaths.records("send:outcome") if one["result"] == "unknown"]
    assert (outcome["send_id"], outcome["call_ids"], outcome["process"], outcome["uncertain"]) == (send.id, [call.id], dead, True)
    assert not outcome.keys() & {"written", "ids", "attempt"}
    assert deaths.outcomes() == {call.id: 1}


async def test_what_is_written_is_of_its_kind(deaths: Deaths) -> None:
    """The outcomes have the members that all outcomes have, each in its form, and no others."""
    calls = [make_call(1), make_call(2)]
    await deaths.died(*taken(*calls), *announced(make_send(calls[0])))
    await deaths.recovered()

    for kind, name in ((CallOutcome, "call:outcome"), (SendOutcome, "send:outcome")):
        for outcome in deaths.records(name):
            members = {member: value for member, value in outcome.items() if member not in {"chain", "seq", "number"}}
            assert TypeAdapter(kind).validate_python(members).record().members == members


async def test_the_dead_chain_is_sealed_and_closed(deaths: Deaths) -> None:
    """A checkpoint covers its end, who listens hears of it, and the next look finds nothing to do."""
    heard = Heard()
    dead = await deaths.died(*taken(make_call(1)))
    recovery = deaths.recovery(deaths.ledger(heard))
    await recovery.recover()
    before = deaths.records()
    await recovery.recover()
    await deaths.recovered()

    assert deaths.sealed(dead)
    assert deaths.chain(dead)["closed_at"]
    assert [f'"chain":"{dead}"' in seal.body for seal in heard.seals] == [True]
    assert deaths.records() == before


async def test_a_lease_that_lasts_is_respected(deaths: Deaths) -> None:
    """Where others may serve too, a chain is ended when its lease has run out, not before; where none can, at once."""
    dead = await deaths.died(*taken(make_call(1)))
    recovery = deaths.recovery(deaths.ledger(), alone=False)
    await recovery.recover()
    early = deaths.chain(dead)["closed_at"]
    deaths.run_out(dead)
    await recovery.recover()

    assert early is None
    assert deaths.chain(dead)["closed_at"]


async def test_a_process_does_not_end_its_own_chain(deaths: Deaths) -> None:
    """A process that slept through its lease, with its machine, is alive."""
    ledger = deaths.ledger()
    await ledger.append(taken(make_call(1)))
    deaths.run_out(ledger.chain)
    await deaths.recovery(ledger).recover()

    assert deaths.chain(ledger.chain)["closed_at"] is None
    assert not deaths.outcomes()


async def test_a_chain_without_a_lease_is_nobodys(deaths: Deaths) -> None:
    """That of administration isn't closed, whatever happens."""
    deaths.sql("INSERT INTO audit_chains (id, opened_at) VALUES (?, ?)", ADMINISTRATION, LONG_AGO)
    await deaths.recovered()

    assert deaths.chain(ADMINISTRATION)["closed_at"] is None


async def test_two_who_look_at_once_close_every_call_once(deaths: Deaths) -> None:
    """One of them claims a chain; the other passes on."""
    calls = [make_call(number) for number in range(50)]
    for start in range(0, 50, 10):
        deaths.run_out(await deaths.died(*taken(*calls[start : start + 10])))
    await asyncio.gather(*(deaths.recovery(deaths.ledger(), alone=False).recover() for _ in range(3)))

    assert deaths.outcomes() == {call.id: 1 for call in calls}


async def test_who_lost_its_claim_writes_nothing_more(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stalled in the midst, and whose claim another took over meanwhile, leaves the rest to that one."""
    monkeypatch.setattr("app.audit.recovery.GROUP_RECORDS", 2)
    calls = [make_call(number) for number in range(7)]
    dead = await deaths.died(*taken(*calls))
    taken_over = "UPDATE audit_chains SET lease_until = '2999-01-01T00:00:00.000000+00:00' WHERE id = ?"
    await deaths.recovery(deaths.ledger(Upon(lambda: deaths.sql(taken_over, dead)))).recover()

    stalled = places(deaths.records("call:outcome")), deaths.chain(dead)["closed_at"]
    await deaths.recovered()

    assert stalled == ([(call.id, "not-sent") for call in calls[:2]], None)
    assert deaths.outcomes() == {call.id: 1 for call in calls}


async def test_a_death_in_the_midst_is_taken_up(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes next closes the rest, begins where that begins, and repeats nothing."""
    monkeypatch.setattr("app.audit.recovery.GROUP_RECORDS", 2)
    calls = [make_call(number) for number in range(5)]
    sends = [make_send(calls[0], calls[4]), make_send(calls[1])]
    dead = await deaths.died(*taken(*calls), *announced(*sends))
    with pytest.raises(ZeroDivisionError):
        await deaths.recovery(deaths.ledger(Upon(lambda: 1 // 0))).recover()
    midst = (sum(deaths.outcomes().values()), deaths.chain(dead)["open_since"])
    await deaths.recovered()

    assert midst == (2, 4)
    assert deaths.outcomes() == {call.id: 1 for call in calls}
    assert sorted(one["send_id"] for one in deaths.records("send:outcome")) == sorted(send.id for send in sends)
    unknown = {call_id for call_id, code in places(deaths.records("call:outcome")) if code == "unknown"}
    assert unknown == {calls[0].id, calls[1].id, calls[4].id}


async def test_an_outcome_in_another_chain_counts(deaths: Deaths) -> None:
    """What the dead process left in its spool was written by its successor, before it looks."""
    call = make_call(1)
    send = make_send(call)
    await deaths.died(*taken(call), *announced(send))
    ledger = deaths.ledger()
    await ledger.append([*answered(send), *ended(call)])
    await deaths.recovery(ledger).recover()

    assert places(deaths.records("call:outcome")) == [(call.id, "ok")]
    assert [one["result"] for one in deaths.records("send:outcome")] == ["linked"]


async def test_the_first_look_waits_for_the_spool(deaths: Deaths) -> None:
    """Nothing is decided before what the dead left there is in the database."""
    call, ledger, asked = make_call(1), deaths.ledger(), asyncio.Event()
    written = asyncio.Event()
    dead = await deaths.died(*taken(call))

    async def settled() -> None:
        asked.set()
        await written.wait()

    async with deaths.recovery(ledger, settled=settled).kept():
        await asked.wait()
        await ledger.append(ended(call))
        written.set()
        await closing(deaths, dead)

    assert places(deaths.records("call:outcome")) == [(call.id, "ok")]


async def test_it_looks_again_and_survives_a_failing_database(
    deaths: Deaths, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that dies later is found too, and a look that fails is told and followed by the next."""
    monkeypatch.setattr("app.audit.recovery.HEARTBEAT_SECONDS", 0.01)
    deaths.sql("ALTER TABLE audit_chains RENAME TO audit_chains_aside")
    output = ""
    async with deaths.recovery(deaths.ledger(), alone=False).kept():
        async with asyncio.timeout(10):
            while "what a dead process left can't be ended" not in output:
                await asyncio.sleep(0.01)
                output += caplog.text + capsys.readouterr().out
        deaths.sql("ALTER TABLE audit_chains_aside RENAME TO audit_chains")
        dead = await deaths.died(*taken(make_call(1)))
        deaths.run_out(dead)
        await closing(deaths, dead)

    assert sum(deaths.outcomes().values()) == 1


async def test_an_end_that_was_altered_is_not_signed(deaths: Deaths) -> None:
    """What doesn't follow from the last checkpoint gets none, so that no edit gets the gateway's signature; it is closed all the same."""
    calls = [make_call(1), make_call(2)]
    dead = await deaths.died(*taken(*calls))
    deaths.sql("UPDATE audit_records SET body = replace(body, '\"1\"', '\"9\"') WHERE chain = ? AND seq = 2", dead)
    await deaths.recovered()

    assert not deaths.sealed(dead)
    assert deaths.chain(dead)["closed_at"]
    assert deaths.outcomes() == {call.id: 1 for call in calls}


@ON_SQLITE  # the other takes no body that can't be read
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("number", [1, 3, 5, 6])
async def test_a_damaged_record_holds_up_no_other(deaths: Deaths, damage: str, number: int) -> None:
    """Whichever it is, and whatever it has become: what it may have told is left out, the log says so once, and all else is ended."""
    calls = [make_call(1), make_call(2)]
    sends = [make_send(call) for call in calls]
    dead = await deaths.died(*taken(*calls), *announced(*sends), *answered(sends[0]))
    recovery = deaths.recovery(deaths.ledger())
    with damaged(Path(deaths.engine.url.database or ""), number, DAMAGES[damage][0]), capture_logs() as lines:
        await recovery.recover()
        await recovery.recover()
        told = [line["numbers"] for line in lines if line["log_level"] == "error" and "numbers" in line]
    ends = {one["call_id"]: one["code"] for one in deaths.records("call:outcome")}

    assert deaths.chain(dead)["closed_at"]
    assert told == [[number]]
    assert [ends.get(call.id) for call in calls] == {3: ["ok", None], 6: ["unknown", "unknown"]}.get(number, ["ok", "unknown"])
    assert all(one["uncertain"] for one in deaths.records("call:outcome") if one["code"] == "unknown")


@pytest.mark.parametrize("heads", [7, "gone", [{}], [{"chain": 1, "seq": 1, "hash": "no"}]], ids=["number", "text", "nothing", "no head"])
async def test_an_end_isnt_signed_while_what_others_say_of_it_cant_be_read(deaths: Deaths, heads: object) -> None:
    """Whoever damaged that may have changed the end, too; the chain is closed all the same, and its calls are ended."""
    call = make_call(1)
    dead = await deaths.died(*taken(call))
    other = await deaths.died(administrative(Name.TOKEN_RESUMED, "test", "shop"))
    [opening] = deaths.records("chain:opened", other)
    body = canonical(opening | {"heads": heads}).decode()
    deaths.sql("UPDATE audit_records SET body = ? WHERE chain = ? AND seq = 1", body, other)
    await deaths.recovered()

    assert deaths.outcomes() == {call.id: 1}
    assert deaths.chain(dead)["closed_at"]
    assert not deaths.sealed(dead)


async def test_a_graceful_end_leaves_nothing(deaths: Deaths) -> None:
    """A process that ended in order has closed and sealed its chain itself."""
    call, ledger = make_call(1), deaths.ledger()
    await ledger.append([*taken(call), *ended(call)])
    await ledger.aclose()
    before = deaths.records()
    closed = deaths.chain(ledger.chain)
    await deaths.recovered()

    assert closed["closed_at"]
    assert closed["lease_until"] is None
    assert deaths.records() == before


async def test_what_a_graceful_end_could_not_close_is_left_to_the_next(deaths: Deaths) -> None:
    """A chain with an intent that got no outcome stays to be ended, at once, from that intent on."""
    done, left = make_call(1), make_call(2)
    ledger = deaths.ledger()
    await ledger.append([*taken(done), *ended(done), *taken(left)])
    await ledger.aclose()
    open_since = deaths.chain(ledger.chain)["open_since"]
    await deaths.recovery(deaths.ledger(), alone=False).recover()

    assert open_since == 4
    assert deaths.outcomes() == {done.id: 1, left.id: 1}
    assert deaths.chain(ledger.chain)["closed_at"]


async def test_what_the_spool_left_open_is_given_up(deaths: Deaths) -> None:
    """An intent out of the dead's spool is closed like any other, and the process that wrote it goes on in a chain of its own."""
    left, living, ledger = make_call(1), make_call(2), deaths.ledger()
    await ledger.append(taken(left))
    spooled = ledger.chain
    await ledger.begin_anew()
    await ledger.append(taken(living))
    await deaths.recovery(ledger).recover()

    assert [(one["call_id"], one["process"], one["chain"]) for one in deaths.records("call:outcome")] == [(left.id, spooled, ledger.chain)]
    assert ledger.chain != spooled
    assert deaths.sealed(spooled)


async def test_a_chain_that_can_not_be_given_up_can_be_later(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a locked database it raises and changes nothing; then it works."""
    hurry(monkeypatch)
    left, ledger = make_call(1), deaths.ledger()
    await ledger.append(taken(left))
    before = ledger.chain
    with locked(deaths.engine), pytest.raises(SQLAlchemyError):
        await ledger.begin_anew()
    untouched = ledger.chain, ledger.given_up
    await ledger.begin_anew()
    await deaths.recovery(ledger).recover()

    assert untouched == (before, "")
    assert ledger.given_up == before
    assert deaths.outcomes() == {left.id: 1}


async def test_the_log_tells_a_death_from_an_end_that_left_nothing_open(deaths: Deaths) -> None:
    """It warns of calls that were open alone, and says whose they were: a dead process's, or out of the spool, in a chain of its own."""
    call, ledger = make_call(1), deaths.ledger()
    dead = await deaths.died(*taken(make_call(2)))
    unclosed = await deaths.died(*taken(call), *ended(call))
    await ledger.append(taken(make_call(3)))
    await ledger.begin_anew()
    with capture_logs() as lines:
        await deaths.recovery(ledger).recover()
    told = {line["chain"]: (line["log_level"], line["event"], line["calls"], line["sends"]) for line in lines}

    assert told == {
        dead: ("warning", "a process had died; its open calls are closed", 1, 0),
        unclosed: ("info", "a chain that its process had not closed is closed; no call was open in it", 0, 0),
        ledger.given_up: ("warning", "what the last process left open in the spool is closed", 1, 0),
    }


async def test_a_chain_in_which_nothing_is_open_goes_on(deaths: Deaths) -> None:
    """What the spool held was complete, or there was nothing: no new chain begins."""
    call, ledger = make_call(1), deaths.ledger()
    await ledger.append([*taken(call), *ended(call)])
    before = ledger.chain
    await ledger.begin_anew()

    assert ledger.chain == before


async def test_the_heartbeat_tells_from_where_on_to_look(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the lease the number of the oldest intent without an outcome is renewed, or, where there is none, of what comes next."""
    monkeypatch.setattr("app.audit.ledger.HEARTBEAT_SECONDS", 0.01)
    first, second, ledger = make_call(1), make_call(2), deaths.ledger()

    async def renewed(since: int) -> None:
        async with asyncio.timeout(10):
            while deaths.chain(ledger.chain)["open_since"] != since:
                await asyncio.sleep(0.01)
            before = deaths.chain(ledger.chain)["lease_until"]
            while deaths.chain(ledger.chain)["lease_until"] == before:
                await asyncio.sleep(0.01)
        assert deaths.chain(ledger.chain)["open_since"] == since

    async with ledger.kept():
        await ledger.append([*taken(first), *announced(make_send(first)), *taken(second)])
        await renewed(2)
        await ledger.append(ended(first))
        await renewed(3)
        await ledger.append(answered(*[make_send(first)]))
        await ledger.append(ended(second))
        await renewed(3)


@ON_SQLITE
async def test_what_is_before_is_not_looked_at(deaths: Deaths) -> None:
    """The search begins at the number that the dead process renewed last, by the primary key, however much there is before."""
    before, after = make_call(1), make_call(2)
    dead = await deaths.died(*taken(before), *taken(after))
    deaths.sql("UPDATE audit_chains SET open_since = 3 WHERE id = ?", dead)
    await deaths.recovered()
    plan = deaths.sql("EXPLAIN QUERY PLAN SELECT number, body FROM audit_records WHERE number BETWEEN 1 AND 2 ORDER BY number LIMIT 9")

    assert deaths.outcomes() == {after.id: 1}
    assert [step[-1] for step in plan] == ["SEARCH audit_records USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]


async def test_a_long_search_renews_its_claim(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, so that nobody else begins meanwhile; and all pages are seen."""
    monkeypatch.setattr("app.audit.recovery.PAGE_RECORDS", 3)
    monkeypatch.setattr("app.audit.recovery.HEARTBEAT_SECONDS", 0.0)
    calls = [make_call(number) for number in range(10)]
    await deaths.died(*taken(*calls), *ended(*calls[::2]))
    await deaths.recovered()

    assert deaths.outcomes() == {call.id: 1 for call in calls}


async def test_a_chain_that_was_closed_is_not_written_to(deaths: Deaths) -> None:
    """Who stood still meanwhile goes on in a new chain at once: nothing stands uncovered behind the end that another sealed."""
    back, other = deaths.ledger(), deaths.ledger()
    await back.append(taken(make_call(1)))
    closed, before = back.chain, time.monotonic()
    deaths.run_out(closed)
    await deaths.recovery(other, alone=False).recover()
    await back.append(taken(make_call(2)))
    await back._renew()
    await back.append(taken(make_call(3)))

    assert len(deaths.records(chain=closed)) == 2
    assert len(deaths.records(chain=back.chain)) == 3
    assert deaths.sealed(closed)
    assert not back.held_since(before)


async def test_an_append_that_waits_while_its_chain_is_closed_goes_to_another(deaths: Deaths) -> None:
    """What its statement saw when it began, before it had the lock, doesn't count."""
    back = deaths.ledger()
    await back.append(taken(make_call(1)))
    closed = back.chain
    with by_hand(deaths.engine) as hand:
        hand.lock()
        hand.execute("UPDATE audit_chains SET closed_at = ? WHERE id = ?", (LONG_AGO, closed))
        waiting = asyncio.create_task(back.append(taken(make_call(2))))
        await _waits_for_the_lock(deaths)
        hand.execute("COMMIT")
        await waiting

    assert len(deaths.records(chain=closed)) == 2
    assert len(deaths.records(chain=back.chain)) == 2


async def _waits_for_the_lock(deaths: Deaths) -> None:
    """Until somebody does; on SQLite that can't be seen, and the statement looks when it has the lock."""
    if deaths.engine.dialect.name == Dialect.POSTGRESQL:
        query = (
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        async with asyncio.timeout(10):
            while not deaths.sql(query):
                await asyncio.sleep(0.01)
    else:
        await asyncio.sleep(0)


async def test_a_chain_that_grows_while_it_is_ended_is_not_closed(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process has come back: what it wrote since would be without a checkpoint, and its calls without an end. A later look ends it."""
    back, other = deaths.ledger(), deaths.ledger()
    await back.append(taken(make_call(1)))
    claimed = back.chain
    deaths.run_out(claimed)
    seal_if = other.seal_if

    async def late(condition: Condition, head: Head | None) -> bool:
        await back.append(taken(make_call(2)))
        return await seal_if(condition, head)

    monkeypatch.setattr(other, "seal_if", late)
    await deaths.recovery(other, alone=False).recover()
    closed = deaths.chain(claimed)["closed_at"]
    monkeypatch.undo()
    deaths.run_out(claimed)
    await deaths.recovery(other, alone=False).recover()

    assert closed is None
    assert deaths.chain(claimed)["closed_at"]
    assert deaths.sealed(claimed)
    assert sorted(deaths.outcomes().values()) == [1, 1]


@ON_POSTGRESQL
async def test_leases_go_by_the_servers_clock(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose machine's clock is ahead takes nobody for dead who lives, and its own leases last no longer than others'."""
    living = await deaths.died(*taken(make_call(1)))
    with monkeypatch.context() as ahead:
        ahead.setattr("app.audit.leases.utc_now", Ahead.text, raising=False)
        ahead.setattr("app.audit.leases.datetime", Ahead, raising=False)
        ahead.setattr("app.storage.clock.datetime", Ahead)
        own = await deaths.died(*taken(make_call(2)))
        await deaths.recovery(deaths.ledger(), alone=False).recover()
    within = "SELECT lease_until::timestamptz <= clock_timestamp() + interval '30 s' FROM audit_chains WHERE id = ?"

    assert deaths.chain(living)["closed_at"] is None
    assert deaths.sql(within, own) == [(True,)]


async def test_who_finds_its_chain_claimed_has_lost_its_lease(deaths: Deaths) -> None:
    """It doesn't take it back: what it had under way others may have ended on record already."""
    back, before = deaths.ledger(), time.monotonic()
    await back.append(taken(make_call(1)))
    claimed, lease = back.chain, "2999-01-01T00:00:00.000000+00:00"
    deaths.sql("UPDATE audit_chains SET lease_until = ? WHERE id = ?", lease, claimed)
    await back._renew()

    assert deaths.chain(claimed)["lease_until"] == lease
    assert not back.held_since(before)
    assert back.chain != claimed


async def test_a_renewal_that_nobody_heard_of_is_no_loss(deaths: Deaths) -> None:
    """Where the answer was lost, the lease that stands there is the process's own, whether or not it came to be written."""
    ledger, before = deaths.ledger(), time.monotonic()
    await ledger.append(taken(make_call(1)))
    chain = ledger.chain

    def unheard(connection: Connection) -> None:
        ledger._own.renew_lease(Unheard(connection))

    with pytest.raises(SQLAlchemyError):
        await ledger._thread.run(unheard)
    await ledger._renew()

    assert ledger.chain == chain
    assert ledger.held_since(before)


async def test_a_command_in_between_does_not_disturb_it(deaths: Deaths) -> None:
    """Where another took the next numbers, the group is chained anew, in one transaction with the claim."""
    calls = [make_call(number) for number in range(3)]
    await deaths.died(*taken(*calls))
    ledger = deaths.ledger()
    await ledger.append([administrative(Name.TOKEN_RESUMED, "test", "shop")])
    await deaths.died(administrative(Name.TOKEN_RESUMED, "test", "shop"))
    await deaths.recovery(ledger).recover()

    assert deaths.outcomes() == {call.id: 1 for call in calls}


async def test_a_locked_database_leaves_it_for_later(deaths: Deaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that can't write raises, and has written nothing; once its claim has run out the next one does."""
    hurry(monkeypatch)
    dead = await deaths.died(*taken(make_call(1)))
    recovery = deaths.recovery(deaths.ledger())
    with locked(deaths.engine), pytest.raises(SQLAlchemyError):
        await recovery.recover()
    untouched = deaths.chain(dead)["closed_at"], deaths.outcomes()
    deaths.run_out(dead)
    await recovery.recover()

    assert untouched == (None, {})
    assert deaths.chain(dead)["closed_at"]


Lives = st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=12), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(lives=Lives)
async def test_whenever_processes_die_every_intent_has_one_outcome(
    tmp_path_factory: pytest.TempPathFactory, lives: list[list[tuple[int, int]]]
) -> None:
    """Any calls, each as far as it came, in any number of lives that each begin with a recovery: one outcome each in the end."""
    path = tmp_path_factory.mktemp("lives") / "gateway.db"
    async with migrated(path) as engine, on(engine) as deaths:
        for life in lives:
            ledger = deaths.ledger()
            await deaths.recovery(ledger).recover()
            for number, steps in life:
                await ledger.append(journey(number, steps))
        await deaths.recovered()

        intents = [one["call_id"] for one in deaths.records("call:intent")]
        sends = [one["send_id"] for one in deaths.records("send:intent")]
        assert deaths.outcomes() == dict.fromkeys(intents, 1)
        assert sorted(one["send_id"] for one in deaths.records("send:outcome")) == sorted(sends)


def journey(number: int, steps: int) -> list[Record]:
    """A call and how far it came: taken in, sent, answered, ended."""
    call = make_call(number + 1)
    send = make_send(call)
    return [*taken(call), *announced(send), *answered(send), *ended(call)][: steps + 1]


class Heard:
    """Who listens to a ledger."""

    def __init__(self) -> None:
        self.seals: list[Seal] = []

    def appended(self, rows: Sequence[Row]) -> None:
        """Of records it keeps nothing."""

    def sealed(self, seals: Sequence[Seal]) -> None:
        """Keep them."""
        self.seals += seals


class Upon(Heard):
    """Does something when the first records have become durable."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self.actions = [action]

    def appended(self, rows: Sequence[Row]) -> None:  # noqa: ARG002 - any will do
        """Do it, once."""
        while self.actions:
            self.actions.pop()()


async def closing(deaths: Deaths, chain: str) -> None:
    """Wait until a chain is closed."""
    async with asyncio.timeout(10):
        while not deaths.chain(chain)["closed_at"]:
            await asyncio.sleep(0.01)
