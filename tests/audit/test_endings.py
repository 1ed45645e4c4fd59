"""What a call ends with whose process died after its send had an end on record: the same as if the process had lived to tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from app.audit.endings import Carried, call_left
from app.audit.records import CallOutcome, call_intent, send_intent, send_outcome
from app.dispatch.sharing import share_of
from app.domain import Accepted, Call, Failure, Garbled, Linked, Outcome, RateLimited, Refused, TimedOut, TokenRejected, Unreachable
from app.upstream import problem_of
from tests.audit.deaths import Deaths, answered, came, make_send, on, taken
from tests.calls import make_call
from tests.storage.database import opened

OVERLOADED = Refused(503, "later")
FINAL = [
    Refused(400, "no"),
    Refused(404, "unknown"),
    Refused(409, "a clash"),
    Refused(500, "a defect"),
    TokenRejected(401, "no"),
    RateLimited(None),
    Unreachable("no connection", uncertain=False),
    Garbled("no list", 200),
    Accepted(200),
]
REPEATED = [Unreachable("lost", uncertain=True), TimedOut("no answer"), Refused(502, ""), OVERLOADED, Refused(504, "")]


@pytest_asyncio.fixture
async def deaths(database: str) -> AsyncIterator[Deaths]:
    """Processes on a database of their own."""
    async with opened(database) as engine, on(engine) as made:
        yield made


async def ends(deaths: Deaths) -> dict[str, dict[str, Any]]:
    """How the calls of the dead ended, by their IDs."""
    await deaths.recovered()
    return {one["call_id"]: one for one in deaths.records("call:outcome")}


def left(call: Call, outcome: Outcome, *beside: Call) -> dict[str, Any]:
    """How a call ends whose send, which it may have shared, ended so."""
    send = make_send(call, *beside)
    carried = Carried(send_intent(send).members, send_outcome(send, outcome, written=True).members)
    return dict(call_left(call_intent(call).members, carried, attempts=1, uncertain=False, process="dead").members)


async def test_an_answered_send_answers_its_call(deaths: Deaths) -> None:
    """With the whole list of the answer, also what nobody asked for; and certainly."""
    call = make_call(7, 8)
    send = make_send(call)
    await deaths.died(*taken(call), *came(send, Linked((7, 99))))
    end = (await ends(deaths))[call.id]

    assert (end["code"], end["upstream_status"], end["linked_ids"]) == ("ok", 200, ["7", "99"])
    assert (end["send_id"], end["attempts"], end["uncertain"]) == (send.id, 1, False)


async def test_a_shared_answer_gives_each_call_its_own_part(deaths: Deaths) -> None:
    """What was linked of the IDs that it asked for; an ID that two asked for stands in both."""
    first, second, equal = make_call(1, 2), make_call(2, 3), make_call(2, 1)
    await deaths.died(*taken(first, second, equal), *came(make_send(first, second, equal), Linked((1, 2, 3))))
    found = await ends(deaths)

    assert [found[call.id]["linked_ids"] for call in (first, second, equal)] == [["1", "2"], ["2", "3"], ["1", "2"]]


async def test_a_shared_refusal_tells_nothing_of_each_call(deaths: Deaths) -> None:
    """It would have been halved: nothing was done, and whose IDs were refused isn't known. Equal calls were refused as they are."""
    good, bad, equals = make_call(1), make_call(2), [make_call(3), make_call(3)]
    shared, equal = came(make_send(good, bad), Refused(400, "no")), came(make_send(*equals), Refused(400, "no"))
    await deaths.died(*taken(good, bad, *equals), *shared, *equal)
    found = await ends(deaths)

    assert [(found[call.id]["code"], found[call.id]["uncertain"]) for call in (good, bad)] == [("unknown", False)] * 2
    assert [found[call.id]["code"] for call in equals] == ["upstream-bad-request"] * 2


async def test_a_half_that_was_answered_is(deaths: Deaths) -> None:
    """Of a send that was taken apart each call ends by its own last one."""
    good, bad = make_call(1), make_call(2)
    apart = [*came(make_send(good, attempt=2), Linked((1,))), *came(make_send(bad, attempt=2), Refused(422, "no"))]
    await deaths.died(*taken(good, bad), *came(make_send(good, bad), Refused(422, "no")), *apart)
    found = await ends(deaths)

    assert [(found[call.id]["code"], found[call.id]["attempts"]) for call in (good, bad)] == [("ok", 2), ("upstream-422", 2)]


async def test_a_turn_that_was_lost_counts_for_nothing(deaths: Deaths) -> None:
    """A call whose only send was taken back was never sent; otherwise what came of the send before holds."""
    unsent, limited = make_call(1), make_call(2)
    earlier, lost = make_send(limited), make_send(limited, attempt=2)
    await deaths.died(*taken(unsent, limited), *came(make_send(unsent), None), *came(earlier, RateLimited(None)), *came(lost, None))
    found = await ends(deaths)

    assert [found[call.id]["code"] for call in (unsent, limited)] == ["not-sent", "upstream-429"]
    assert [(found[call.id].get("send_id"), found[call.id]["attempts"]) for call in (unsent, limited)] == [(None, 0), (earlier.id, 1)]


async def test_what_an_earlier_send_may_have_done_makes_the_answer_uncertain(deaths: Deaths) -> None:
    """As in the answer that the process would have given."""
    call = make_call(1)
    await deaths.died(*taken(call), *came(make_send(call), OVERLOADED), *came(make_send(call, attempt=2), Linked(())))
    end = (await ends(deaths))[call.id]

    assert (end["code"], end["linked_ids"], end["uncertain"], end["attempts"]) == ("ok", [], True, 2)


async def test_an_answer_out_of_the_spool_counts(deaths: Deaths) -> None:
    """It stands in another chain than its send."""
    call, ledger = make_call(1), deaths.ledger()
    send = make_send(call)
    await deaths.died(*taken(call), came(send, None)[0])
    await ledger.append(answered(send))
    await deaths.recovery(ledger).recover()

    assert [(one["call_id"], one["code"]) for one in deaths.records("call:outcome")] == [(call.id, "ok")]


@pytest.mark.parametrize("outcome", FINAL)
def test_a_failure_has_the_code_that_its_caller_would_have_had(outcome: Accepted | Failure) -> None:
    """And the same status, and the same doubt."""
    end = left(make_call(1), outcome)

    assert end["code"] == problem_of(outcome).code
    assert end.get("upstream_status") == outcome.status
    assert end["uncertain"] is outcome.uncertain


@pytest.mark.parametrize("outcome", REPEATED)
def test_what_would_have_been_sent_again_is_unknown(outcome: Failure) -> None:
    """Who asks once more shall not be given a failure that the gateway itself would not have been content with."""
    end = left(make_call(1), outcome)

    assert (end["code"], end["uncertain"]) == ("unknown", True)


IDS = st.sets(st.integers(1, 6), min_size=1)


@given(own=IDS, other=IDS, linked=st.lists(st.integers(1, 6), unique=True))
def test_the_shares_are_those_that_the_process_would_have_given(own: set[int], other: set[int], linked: list[int]) -> None:
    """Whatever two calls asked for together, of what they asked for; and the record is of its kind."""
    first, second = make_call(*sorted(own)), make_call(*sorted(other))
    outcome = Linked(tuple(one for one in linked if one in own | other))
    share, end = share_of(outcome, first, (first, second)), left(first, outcome, second)

    assert isinstance(share, Linked)
    assert end["linked_ids"] == list(map(str, share.order_ids))
    members = end | {"process": first.id}
    assert TypeAdapter(CallOutcome).validate_python(members).record().members == members
