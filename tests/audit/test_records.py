"""The records' types: frozen, closed, and held to the published schema and page."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.audit.records import (
    KINDS,
    AuditPruned,
    CallIntent,
    CallOutcome,
    CallRefused,
    Name,
    Record,
    RefusalsCounted,
    SendOutcome,
    call_intent,
    call_outcome,
    call_refused,
    job_accepted,
    job_cancelled,
    send_intent,
    send_outcome,
    token_echoed,
)
from app.audit.records.schema import DIALECT, members_of, names_of, schema, schema_text
from app.domain import (
    NO_PARAMETER,
    Accepted,
    Actor,
    Garbled,
    Linked,
    Outcome,
    Priority,
    RateLimited,
    Refused,
    Send,
    TimedOut,
    TokenRejected,
    Unreachable,
    utc_now,
)
from app.errors import QueueFull
from app.jobs import NewJob
from tests.calls import LINK, SHOP, make_asked, make_call

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| `(?P<name>[a-z:-]+)` \| .+ \| (?P<members>.*) \|$", re.MULTILINE)
PUBLISHED = schema()


def faults(record: Record) -> list[str]:
    """Where a record, once it has its place, isn't as its name's schema says."""
    reference = {"$ref": f"#/$defs/{record.name.value}", "$defs": PUBLISHED["$defs"]}
    placed = {**record.members, "chain": "administration", "seq": 1, "number": 1}
    return [error.message for error in Draft202012Validator(reference).iter_errors(json.loads(json.dumps(placed)))]


def make_send(*calls: Any) -> Send:
    """A send of these calls."""
    carried = calls or (make_call(1, 2),)
    return Send(attempt=1, lane=SHOP.lane, ids=(1, 2), calls=carried, released=0)


def test_each_name_belongs_to_one_kind_of_record() -> None:
    """None is left out, none has two."""
    assert sorted(name for kind in KINDS for name in names_of(kind)) == sorted(Name)


def test_a_record_is_frozen() -> None:
    """What was told isn't changed afterwards, nor given more members."""
    told = RefusalsCounted(address="10.0.0.1", code="not-found", count=1)
    with pytest.raises(FrozenInstanceError):
        told.count = 2  # type: ignore[misc]

    assert not hasattr(told, "__dict__")


def test_a_record_holds_its_id_its_time_and_what_is_known() -> None:
    """A UUIDv7, UTC to the microsecond, its name; members that are None are absent."""
    before = utc_now()
    record = RefusalsCounted(address="10.0.0.1", code="not-found", count=1).record()

    assert set(record.members) == {"id", "at", "name", "address", "code", "count"}
    assert before <= record.members["at"] <= utc_now()
    assert (record.id, record.name) == (record.members["id"], Name.REFUSALS_COUNTED)
    assert faults(record) == []


def test_a_record_without_a_member_that_it_must_have_can_not_be_made() -> None:
    """The members are the type's, by name, and each must be given that isn't optional."""
    with pytest.raises(TypeError, match="count"):
        RefusalsCounted(address="10.0.0.1", code="not-found")  # type: ignore[call-arg]


def test_a_calls_records_hold_who_what_and_the_end() -> None:
    """Request, caller, credential, address, operation, IDs, token and decision stand in each; the outcome has all that came of it."""
    call = make_call(5)
    linked, intent = Linked((5,)), call_intent(call)
    outcome = call_outcome(
        call, code="ok", linked=linked, upstream_status=200, send_id="s", attempts=2, queued=0.0015, upstream=1.0, uncertain=True
    )

    assert intent.members["decision"] == "accepted"
    assert {name: value for name, value in outcome.members.items() if name in intent.members} == {
        **intent.members,
        **{member: outcome.members[member] for member in ("id", "at", "name")},
    }
    assert {name: value for name, value in outcome.members.items() if name not in intent.members} == {
        "code": "ok",
        "send_id": "s",
        "attempts": 2,
        "queue_ms": 1.5,
        "upstream_ms": 1000,
        "upstream_status": 200,
        "linked_ids": ["5"],
        "uncertain": True,
    }
    assert faults(intent) == faults(outcome) == []


def test_a_refused_call_has_what_could_be_read() -> None:
    """Its parameter and IDs, so that it is found by them; the rest of the query stands nowhere."""
    call = make_call(5, 6)
    asked = make_asked(call.caller, b"orderIds=5,6&secret=the-secret", trace_id="4bf92f3577b34da6a3ce929d0e0e4736")
    read = call_refused(asked, QueueFull("full"), read=(call.parameter, call.ids), token="shop")
    unread = call_refused(asked, QueueFull("full"), read=None, token=None)

    assert (read.members["parameter"], read.members["ids"]) == ("orderIds", ["5", "6"])
    assert (read.members["decision"], read.members["code"], read.members["trace_id"]) == ("refused", "queue-full", asked.trace_id)
    assert {"parameter", "ids", "token"}.isdisjoint(unread.members)
    assert "the-secret" not in str(read)
    assert faults(read) == faults(unread) == []


@pytest.mark.parametrize(
    ("outcome", "result"),
    [
        (Linked((1,)), "linked"),
        (Accepted(204), "accepted"),
        (Refused(500, "no"), "refused"),
        (TokenRejected(401, "no"), "tokenrejected"),
        (RateLimited(1.0), "ratelimited"),
        (Unreachable("gone", uncertain=True), "unreachable"),
        (TimedOut("late"), "timedout"),
        (Garbled("what", None), "garbled"),
        (None, "unknown"),
    ],
)
def test_every_outcome_of_a_send_has_its_word(outcome: Outcome | None, result: str) -> None:
    """What came back has one of a closed set of results, and its status where there was an answer."""
    record = send_outcome(make_send(), outcome, written=True)

    assert record.members["result"] == result
    assert record.members.get("upstream_status") == (outcome.status if outcome else None)
    assert faults(record) == []


def test_a_send_names_all_that_it_carries() -> None:
    """Every call, and the request and trace of the one whose turn it is."""
    first, second = make_call(1), make_call(2, caller="other")
    record = send_intent(make_send(first, second))

    assert record.members["call_ids"] == [first.id, second.id]
    assert (record.members["call_id"], record.members["request_id"], record.members["ids"]) == (first.id, first.request_id, ["1", "2"])
    assert faults(record) == faults(token_echoed(make_send(first), 2)) == []


def test_what_another_process_tells_of_a_dead_one_has_a_place() -> None:
    """The outcome of a call or send whose process died names that process, and leaves out what nobody knows."""
    call, send = call_intent(make_call(1)).members, send_outcome(make_send(), None, written=True).members
    kept = {name: value for name, value in call.items() if name not in {"id", "at", "name"}}
    told = {name: value for name, value in send.items() if name not in {"id", "at", "name", "written"}}
    closed = [CallOutcome(**kept, code=code, uncertain=code == "unknown", process="chain-1").record() for code in ("not-sent", "unknown")]
    lost = SendOutcome(**told, process="chain-1").record()

    assert [faults(record) for record in (*closed, lost)] == [[], [], []]
    assert "attempts" not in closed[0].members


def test_a_pruning_names_what_it_removed() -> None:
    """Chain, places and time; its own chain's name is another member."""
    record = AuditPruned(by="command:ada", subject="c", pruned_chain="c", first=1, last=9, before=utc_now(), file="c-1-9.jsonl.gz").record()

    assert (record.name, record.members["pruned_chain"]) == (Name.AUDIT_PRUNED, "c")
    assert faults(record) == []


@pytest.mark.parametrize("kind", [CallIntent, CallRefused])
def test_the_schema_is_closed(kind: type[Any]) -> None:
    """A member that isn't described, or lacks, or is null, is a fault."""
    name = names_of(kind)[0].value
    call = make_call(1)
    asked = make_asked(call.caller)
    good = call_intent(call) if kind is CallIntent else call_refused(asked, QueueFull("full"), read=None, token=None)

    def changed(**members: object) -> Record:
        return Record(good.name, {**good.members, **members})

    assert PUBLISHED["$defs"][name]["additionalProperties"] is False
    assert faults(good) == []
    assert faults(changed(colour="red"))
    assert faults(changed(origin=None))
    assert faults(changed(id="1"))
    assert faults(Record(good.name, {key: value for key, value in good.members.items() if key != "caller"}))


def test_the_published_schema_is_the_codes() -> None:
    """`docs/audit.schema.json` is what the types say, in the dialect that it names; `make schema` writes it anew."""
    Draft202012Validator.check_schema(PUBLISHED)

    assert PUBLISHED["$schema"] == DIALECT == Draft202012Validator.META_SCHEMA["$id"]
    assert (DOCS / "audit.schema.json").read_text(encoding="utf-8") == schema_text()


def test_every_name_and_member_is_described() -> None:
    """Nobody needs to read the code to know what a member means."""
    defined = PUBLISHED["$defs"].values()

    assert all(one["description"] for one in defined)
    assert all(member["description"] for one in defined for member in one["properties"].values())


def test_the_page_lists_every_record_with_its_members() -> None:
    """`docs/audit.md` has one row for each name, with exactly its members; `?` marks those that may be absent."""
    page = (DOCS / "audit.md").read_text(encoding="utf-8").partition("\n## Before the send")[0]
    listed = {row["name"]: re.findall(r"`([^`]+)`", row["members"]) for row in ROW.finditer(page)}
    expected = {}
    for kind in KINDS:
        for name in names_of(kind):
            required = PUBLISHED["$defs"][name.value]["required"]
            expected[name.value] = [one if one in required else f"{one}?" for one in members_of(kind)]

    assert listed == expected


def test_a_jobs_records_say_who_and_how_much() -> None:
    """The IDs stand in its calls' records; who cancels it need not be its caller."""
    asked = NewJob(
        caller=make_call(1).caller,
        operation=LINK,
        parameter=LINK.parameters[0],
        ids=range(1, 100_001),
        token=SHOP,
        priority=Priority.BATCH,
        request_id="r",
        expires_at=utc_now(),
    )
    accepted, cancelled = job_accepted(asked), job_cancelled(asked.id, caller="service", by=Actor(by="command:ada"))

    assert (accepted.members["job_id"], accepted.members["count"], accepted.members["decision"]) == (asked.id, 100_000, "accepted")
    assert "ids" not in accepted.members
    assert (cancelled.members["subject"], cancelled.members["caller"], cancelled.members["by"]) == (asked.id, "service", "command:ada")
    assert faults(accepted) == faults(cancelled) == []


def test_a_tests_send_has_neither_parameter_nor_ids() -> None:
    """A probe asks for no IDs, and says that it is a test."""
    call = make_call(1)
    probe = replace(call.operation, parameters=())
    trial = replace(call, operation=probe, parameter=NO_PARAMETER, ids=(), test=True)
    record = send_intent(make_send(trial))

    assert record.members["test"] is True
    assert {"parameter", "ids"}.isdisjoint(record.members)
    assert faults(record) == []
