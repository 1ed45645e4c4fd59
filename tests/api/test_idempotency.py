"""Requests that are made again with the same `Idempotency-Key`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import func, select, update

from app.callers import GrantAsked, NewCaller
from app.domain import Call, Send, TokenRef
from app.storage import reading, writing
from app.storage.tables import idempotency
from tests.rig import TOKEN, Rig, rigged, until
from tests.storage.database import by_hand

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = (f'"key-{number}"' for number in count(1))
ORDERS = count(3_001)
BATCH = {"operation": "link-orders", "parameter": "orderIds"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway before a simulated Flxpoint that has a thousand orders more."""
    async with rigged(tmp_path_factory.mktemp("state"), caller_rate="10000/second") as running:
        seeded = await running.client.post(f"{running.upstream}/_simulator/seed", json={"count": 1_000, "first": 3_001})
        seeded.raise_for_status()
        yield running


def proof(key: str, **headers: str) -> dict[str, str]:
    """A credential beside these headers."""
    return {"Authorization": f"Bearer {key}"} | {name.replace("_", "-"): value for name, value in headers.items()}


async def batch(rig: Rig, ids: list[int], **headers: str) -> httpx2.Response:
    """Ask for a batch."""
    return await rig.client.post(f"{rig.url}/gateway/batches", json=BATCH | {"ids": ids}, headers=proof(rig.key, **headers))


async def kept(rig: Rig) -> int:
    """How many keys stand for something."""
    async with reading(rig.house.engine) as connection:
        return int((await connection.execute(select(func.count()).select_from(idempotency))).scalar_one())


async def sends(rig: Rig, order: int) -> list[dict[str, Any]]:
    """The sends on record that asked for an order."""
    return [one for one in await rig.records() if one["name"] == "send:intent" and str(order) in one["ids"]]


async def seen(rig: Rig, order: int) -> None:
    """Wait until a send that asks for this order has been written."""

    async def written() -> bool:
        return bool(await sends(rig, order))

    await until(written)


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


async def test_the_same_request_gets_the_same_answer(rig: Rig) -> None:
    """A repetition is answered as the first was, marked as a repetition, and sends nothing: Flxpoint would have answered otherwise."""
    key, order = next(KEYS), next(ORDERS)
    first = await rig.link(f"orderIds={order}", Idempotency_Key=key)
    again = await rig.link(f"orderIds={order}", Idempotency_Key=key)

    assert (first.status_code, first.json()) == (200, [order])
    assert "Idempotent-Replayed" not in first.headers
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    for name in ("Content-Type", "Gateway-Token", "Gateway-Attempts"):
        assert again.headers[name] == first.headers[name]
    assert len(await sends(rig, order)) == 1


async def test_a_list_is_the_same_however_it_is_written(rig: Rig) -> None:
    """Commas, repeated names and percent-encoding make no other request of it."""
    key, order, other = next(KEYS), next(ORDERS), next(ORDERS)
    await rig.link(f"orderIds={order},{other}", Idempotency_Key=key)
    answers = [
        await rig.link(query, Idempotency_Key=key) for query in (f"orderIds={order}&orderIds={other}", f"order%49ds={order}%2C{other}&")
    ]

    assert [answer.headers["Idempotent-Replayed"] for answer in answers] == ["true", "true"]
    assert [answer.json() for answer in answers] == [[order, other]] * 2


async def test_another_request_is_refused(rig: Rig) -> None:
    """A key that stands for one request isn't good for other IDs, another token or a batch; that is on record."""
    key, order = next(KEYS), next(ORDERS)
    await rig.link(f"orderIds={order}", Idempotency_Key=key)
    answers = [
        await rig.link(f"orderIds={next(ORDERS)}", Idempotency_Key=key),
        await rig.link(f"orderIds={order}", Idempotency_Key=key, Gateway_Token=TOKEN.name),
        await rig.link(f"orderIds={next(ORDERS)}", Idempotency_Key=key, Prefer="respond-async"),
        await batch(rig, [order], Idempotency_Key=key),
    ]
    refused = [one["code"] for one in await rig.records() if one["name"] == "call:refused"]

    assert [(answer.status_code, code_of(answer)) for answer in answers] == [(422, "idempotency-mismatch")] * 4
    assert refused[-3:] == ["idempotency-mismatch"] * 3


async def test_while_the_first_runs_others_are_told_to_wait(rig: Rig) -> None:
    """Of many requests with one key at once one is made; the others get `409` and when to ask again, and then its answer."""
    key, order = next(KEYS), next(ORDERS)
    await rig.plan({"kind": "latency", "back": 0.8, "count": 1})
    answers = await asyncio.gather(*(rig.link(f"orderIds={order}", Idempotency_Key=key) for _ in range(6)))
    again = await rig.link(f"orderIds={order}", Idempotency_Key=key)
    others = [answer for answer in answers if answer.status_code != 200]

    assert [answer.json() for answer in answers if answer.status_code == 200] == [[order]]
    assert [(answer.status_code, code_of(answer), answer.headers["Retry-After"]) for answer in others] == [(409, "conflict", "1")] * 5
    assert again.json() == [order]
    assert len(await sends(rig, order)) == 1


@pytest.mark.parametrize(
    "key",
    ["key", "'key'", '"key', 'key"', '""', '"key" "other"', '"key", "other"', '"k\\ey"', '"schlüssel"', "17", ":a2V5:", f'"{"k" * 256}"'],
)
async def test_a_malformed_key_is_refused(rig: Rig, key: str) -> None:
    """A key is one string in double quotes, as the draft has it, of at most 255 bytes."""
    headers = [(b"Authorization", f"Bearer {rig.key}".encode()), (b"Idempotency-Key", key.encode())]
    answer = await rig.client.patch(f"{rig.url}/orders/link?orderIds=1", headers=headers)

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")
    assert "Idempotency-Key must stand once" in answer.json()["detail"]


async def test_a_key_stands_once(rig: Rig) -> None:
    """Of two keys nobody knows which one counts."""
    headers = [("Authorization", f"Bearer {rig.key}"), ("Idempotency-Key", '"one"'), ("Idempotency-Key", '"two"')]
    answer = await rig.client.patch(f"{rig.url}/orders/link?orderIds=1", headers=headers)

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")


@pytest.mark.parametrize("key", [f'"{"k" * 255}"', '"with \\"quotes\\" and \\\\"', '"key"; a=1;b; c="d"'])
async def test_every_string_is_a_key(rig: Rig, key: str) -> None:
    """The longest, escaped ones, and those with parameters, which aren't looked at (RFC 9651)."""
    order = next(ORDERS)
    answers = [await rig.link(f"orderIds={order}", Idempotency_Key=key) for _ in range(2)]

    assert [answer.json() for answer in answers] == [[order]] * 2
    assert "Idempotent-Replayed" in answers[1].headers


async def test_callers_keys_dont_meet(rig: Rig) -> None:
    """The same key of another caller is another key."""
    new = NewCaller("returns", (GrantAsked(TOKEN.name),))
    _, other = await rig.administer(lambda administration: administration.add_caller(new))
    key, order = next(KEYS), next(ORDERS)
    await rig.link(f"orderIds={order}", Idempotency_Key=key)
    url = f"{rig.url}/orders/link?orderIds={order},{next(ORDERS)}"
    answer = await rig.client.patch(url, headers=proof(other.reveal(), Idempotency_Key=key))

    assert answer.status_code == 200
    assert "Idempotent-Replayed" not in answer.headers


async def test_what_wasnt_sent_isnt_kept(rig: Rig) -> None:
    """A request that was refused here may be made again with its key, right or wrong."""
    key, order, before = next(KEYS), next(ORDERS), await kept(rig)
    refused = await rig.link("orderIds=x", Idempotency_Key=key)
    after = await kept(rig)
    answer = await rig.link(f"orderIds={order}", Idempotency_Key=key)

    assert (refused.status_code, after) == (400, before)
    assert answer.json() == [order]


async def test_a_failure_that_did_nothing_isnt_kept(rig: Rig) -> None:
    """Where Flxpoint couldn't be reached the same request may succeed later, and is sent then."""
    key, order = next(KEYS), next(ORDERS)
    await rig.plan({"kind": "reset-before"})
    failed = await rig.link(f"orderIds={order}", Idempotency_Key=key, Prefer="wait=1")
    await rig.client.delete(f"{rig.upstream}/_simulator/faults")
    answer = await rig.link(f"orderIds={order}", Idempotency_Key=key)

    assert failed.status_code >= 500
    if "Gateway-Uncertain" in failed.headers:
        assert answer.content == failed.content
    else:
        assert answer.json() == [order]


async def test_a_refusal_of_flxpoints_is_kept(rig: Rig) -> None:
    """What Flxpoint said of the request it would say again: its answer is given without asking it."""
    key, order = next(KEYS), next(ORDERS)
    await rig.plan({"kind": "status", "status": 422, "body": "no", "count": 1})
    answers = [await rig.link(f"orderIds={order}", Idempotency_Key=key) for _ in range(2)]

    assert [(answer.status_code, code_of(answer)) for answer in answers] == [(422, "upstream-422")] * 2
    assert answers[0].content == answers[1].content
    assert answers[1].headers["Content-Type"] == "application/problem+json"
    assert answers[1].headers["Idempotent-Replayed"] == "true"


async def test_an_answer_that_nobody_heard_is_kept(rig: Rig) -> None:
    """Whoever lost the connection while the call was under way gets its answer by asking again: the list lacks nothing."""
    key, order = next(KEYS), next(ORDERS)
    await rig.plan({"kind": "latency", "back": 0.8, "count": 1})
    asking = asyncio.create_task(rig.link(f"orderIds={order}", Idempotency_Key=key))
    await seen(rig, order)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    async def told() -> bool:
        return (await rig.link(f"orderIds={order}", Idempotency_Key=key)).status_code == 200

    await until(told)
    answer = await rig.link(f"orderIds={order}", Idempotency_Key=key)

    assert answer.json() == [order]
    assert len(await sends(rig, order)) == 1


async def test_a_waiting_call_whose_caller_left_is_made_anew(rig: Rig) -> None:
    """A call that was still in its queue leaves it with its caller, and its key stands for nothing."""
    key, order = next(KEYS), next(ORDERS)
    ahead = [asyncio.create_task(rig.link(f"orderIds={next(ORDERS)}")) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(httpx2.ReadTimeout):
        await rig.client.patch(
            f"{rig.url}/orders/link?orderIds={order}", headers=proof(rig.key, Idempotency_Key=key, Prefer="wait=20"), timeout=0.2
        )
    await asyncio.gather(*ahead)

    async def told() -> bool:
        return (await rig.link(f"orderIds={order}", Idempotency_Key=key)).status_code == 200

    await until(told)

    assert (await rig.link(f"orderIds={order}", Idempotency_Key=key)).json() == [order]
    assert len(await sends(rig, order)) == 1


async def test_a_call_whose_caller_left_before_it_was_in_its_queue_isnt_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is put on record it can still be left out; then its key stands for nothing."""
    key, order, audit = next(KEYS), next(ORDERS), rig.house.audit
    recording, left = asyncio.Event(), asyncio.Event()
    intent = audit.intent

    async def held_up(call: Call, *, at_once: bool) -> None:
        recording.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.set()
            raise
        finally:
            await intent(call, at_once=at_once)

    monkeypatch.setattr(audit, "intent", held_up)
    asking = asyncio.create_task(rig.link(f"orderIds={order}", Idempotency_Key=key))
    await recording.wait()
    asking.cancel()
    async with asyncio.timeout(10):
        await left.wait()
    monkeypatch.undo()

    async def told() -> bool:
        return (await rig.link(f"orderIds={order}", Idempotency_Key=key)).status_code == 200

    await until(told)
    ends = [one["code"] for one in await rig.records() if one["name"] == "call:outcome" and str(order) in one["ids"]]

    assert ends == ["caller-gone", "ok"]
    assert len(await sends(rig, order)) == 1


async def test_a_call_with_a_key_is_on_record_before_its_turn(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a process that stands still before the commit, while its call counts as recorded, would send what another made anew."""
    order, audit, found, tokens = next(ORDERS), rig.house.audit, list[int](), list[TokenRef]()
    sending, query = audit.sending, "SELECT 1 FROM audit_records WHERE name = 'call:intent' AND instr(body, ?) > 0"

    async def looked(send: Send) -> None:
        with by_hand(rig.house.engine) as hand:
            found.append(len(hand.execute(query, (send.calls[0].id,)).fetchall()))
        tokens.append(send.token)
        await sending(send)

    async def idle() -> bool:
        state = rig.house.services.gateway.lane_state(tokens[0])
        return state is not None and state.remaining == state.limit

    monkeypatch.setattr(audit, "sending", looked)
    await rig.link(f"orderIds={next(ORDERS)}")
    await until(idle)
    await rig.link(f"orderIds={order}", Idempotency_Key=next(KEYS))

    assert found[-1] == 1


async def test_a_call_that_is_answered_later_is_one_job(rig: Rig) -> None:
    """The same request gets the same job, however it prefers to wait, also of many at once."""
    key, order = next(KEYS), next(ORDERS)
    asked = [rig.link(f"orderIds={order}", Idempotency_Key=key, Prefer="respond-async") for _ in range(5)]
    answers = await asyncio.gather(*asked)
    waiting = await rig.link(f"orderIds={order}", Idempotency_Key=key)

    assert {answer.status_code for answer in (*answers, waiting)} == {202}
    assert len({answer.headers["Location"] for answer in (*answers, waiting)}) == 1
    assert [("Idempotent-Replayed" in answer.headers) for answer in answers].count(False) == 1
    await seen(rig, order)
    assert len(await sends(rig, order)) == 1


async def test_an_answer_serves_who_prefers_it_later_too(rig: Rig) -> None:
    """What was answered already needs no job."""
    key, order = next(KEYS), next(ORDERS)
    await rig.link(f"orderIds={order}", Idempotency_Key=key)
    answer = await rig.link(f"orderIds={order}", Idempotency_Key=key, Prefer="respond-async")

    assert (answer.status_code, answer.json()) == (200, [order])
    assert answer.headers["Idempotent-Replayed"] == "true"


async def test_a_batch_is_one_job(rig: Rig) -> None:
    """A batch that is asked for again and again with one key, also at once, is made once; other IDs are another request."""
    key, order = next(KEYS), next(ORDERS)
    answers = await asyncio.gather(*(batch(rig, [order], Idempotency_Key=key) for _ in range(5)))
    other = await batch(rig, [order, next(ORDERS)], Idempotency_Key=key)

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert [("Idempotent-Replayed" in answer.headers) for answer in answers].count(False) == 1
    assert (other.status_code, code_of(other)) == (422, "idempotency-mismatch")


async def test_a_batch_with_a_malformed_key_is_refused(rig: Rig) -> None:
    """The rule for keys is the same for batches."""
    answer = await batch(rig, [1], Idempotency_Key="bare")

    assert (answer.status_code, code_of(answer)) == (400, "request-malformed")


async def test_an_answer_that_wasnt_kept_is_told_by_the_record(rig: Rig) -> None:
    """Where the process died between the answer's record and keeping it, the same answer is made of the record."""
    key, order = next(KEYS), next(ORDERS)
    first = await rig.link(f"orderIds={order}", Idempotency_Key=key)
    async with writing(rig.house.engine) as connection:
        await connection.execute(update(idempotency).values(answer=None))
    again = await rig.link(f"orderIds={order}", Idempotency_Key=key)

    assert (again.status_code, again.content) == (200, first.content)
    assert (again.headers["Gateway-Token"], again.headers["Gateway-Attempts"]) == (TOKEN.name, "1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(await sends(rig, order)) == 1


async def test_a_key_lasts_for_a_day(rig: Rig) -> None:
    """After 24 hours the key is as good as new."""
    key, order = next(KEYS), next(ORDERS)
    await rig.link(f"orderIds={order}", Idempotency_Key=key)
    async with writing(rig.house.engine) as connection:
        await connection.execute(update(idempotency).values(created_at="2020-01-01T00:00:00.000000+00:00"))
    again = await rig.link(f"orderIds={order}", Idempotency_Key=key)

    assert (again.status_code, again.json()) == (200, [])
    assert "Idempotent-Replayed" not in again.headers
