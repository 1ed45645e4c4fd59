"""What a lane promises, before the simulator on real sockets: fairness, shared and merged sends, retries, the breaker."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.administration import Administration
from app.callers import GrantAsked, NewCaller
from tests.acceptance.test_link import code_of
from tests.rig import Rig, rigged


async def keys_of(rig: Rig, *names: str) -> list[str]:
    """New callers, each with a grant for the shop; their keys."""
    keys = []
    for name in names:
        _, key = await rig.administer(partial(Administration.add_caller, new=NewCaller(name, (GrantAsked("shop"),))))
        keys.append(key.reveal())
    return keys


async def link_as(rig: Rig, key: str, query: str, **headers: str) -> httpx2.Response:
    """`PATCH /orders/link` as another caller."""
    return await rig.link(query, Authorization=f"Bearer {key}", **headers)


async def take_both_slots(rig: Rig) -> None:
    """Two calls, which can't share a send, use the budget of the next second up, so that what comes now waits together."""
    await asyncio.gather(rig.link("orderIds=1048"), rig.link("orderItemIds=104901"))


def most_in_a_second(times: list[float]) -> int:
    """The most arrivals in any window of a second, with no tolerance."""
    return max(sum(start <= one < start + 1 for one in times) for start in times)


def records_of(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The records of a name."""
    return [record for record in records if record["name"] == name]


async def test_one_callers_flood_does_not_delay_anothers_single_call(tmp_path: Path) -> None:
    """The single call goes next, though eight others came before it; no window breaks meanwhile."""
    async with rigged(tmp_path) as rig:
        (other,) = await keys_of(rig, "other")
        flood = [asyncio.create_task(rig.link(f"orderIds={1001 + number}")) for number in range(10)]
        while len(await rig.arrivals()) < 2:
            await asyncio.sleep(0.01)
        single = await link_as(rig, other, "orderIds=1040")
        waiting = sum(not task.done() for task in flood)
        answers, arrivals = await asyncio.gather(*flood), await rig.arrivals()

    assert single.status_code == 200
    assert waiting >= 5
    assert {answer.status_code for answer in answers} == {200}
    assert most_in_a_second(arrivals) <= 2


async def test_equal_calls_that_wait_share_one_send(tmp_path: Path) -> None:
    """Each gets the whole answer, and each has its own record, naming the one send."""
    async with rigged(tmp_path) as rig:
        await take_both_slots(rig)
        calls = [asyncio.create_task(rig.link("orderIds=1001,1002")) for _ in range(4)]
        answers = await asyncio.gather(*calls)
        arrivals, records = await rig.arrivals(), await rig.records()
    intents, outcomes = records_of(records, "send:intent")[2:], records_of(records, "call:outcome")[2:]

    assert [answer.json() for answer in answers] == [[1001, 1002]] * 4
    assert len(arrivals) == 3
    assert sorted(intents[0]["call_ids"]) == sorted(outcome["call_id"] for outcome in outcomes)
    assert {outcome["send_id"] for outcome in outcomes} == {intents[0]["send_id"]}


async def test_waiting_calls_are_merged_and_each_gets_its_own_part(tmp_path: Path) -> None:
    """With coalescing on, twenty callers' calls need one send; without it, twenty."""
    async with rigged(tmp_path, coalesce=True) as rig:
        keys = await keys_of(rig, *(f"caller-{number}" for number in range(20)))
        await take_both_slots(rig)
        calls = [link_as(rig, key, f"orderIds={1001 + number},{1002 + number}") for number, key in enumerate(keys)]
        answers = await asyncio.gather(*calls)
        arrivals, records = await rig.arrivals(), await rig.records()

    assert [answer.json() for answer in answers] == [[1001 + number, 1002 + number] for number in range(20)]
    assert len(arrivals) == 3
    assert sorted(records_of(records, "send:intent")[2]["ids"]) == [str(1001 + number) for number in range(21)]
    assert sorted(len(record["linked_ids"]) for record in records_of(records, "call:outcome")[2:]) == [2] * 20


async def test_a_bad_id_in_a_merged_send_harms_only_its_own_call(tmp_path: Path) -> None:
    """The send is halved until the bad call stands alone; the others get their results, and the bad one its problem."""
    async with rigged(tmp_path, coalesce=True) as rig:
        await rig.plan({"kind": "status", "status": 400, "holding": 1003})
        keys = await keys_of(rig, *(f"caller-{number}" for number in range(5)))
        await take_both_slots(rig)
        answers = await asyncio.gather(*(link_as(rig, key, f"orderIds={1001 + number}") for number, key in enumerate(keys)))
        arrivals = await rig.arrivals()

    assert [answer.json() for number, answer in enumerate(answers) if number != 2] == [[1001], [1002], [1004], [1005]]
    assert code_of(answers[2]) == "upstream-bad-request"
    assert "Gateway-Uncertain" not in answers[0].headers
    assert most_in_a_second(arrivals) <= 2


async def test_an_id_that_nobody_asked_for_ends_merging(tmp_path: Path) -> None:
    """The answer can't be told apart any more, so later calls go one by one."""
    async with rigged(tmp_path, coalesce=True) as rig:
        keys = await keys_of(rig, "first", "second")
        await take_both_slots(rig)
        await rig.plan({"kind": "garbage", "bodies": ["[1001,1002,999]"], "count": 1})
        merged = await asyncio.gather(*(link_as(rig, key, f"orderIds={1001 + number}") for number, key in enumerate(keys)))
        await take_both_slots(rig)
        apart = await asyncio.gather(*(link_as(rig, key, f"orderIds={1011 + number}") for number, key in enumerate(keys)))
        arrivals, report = await rig.arrivals(), next(rig.house.dispatcher.reports())

    assert [answer.json() for answer in merged] == [[1001], [1002]]
    assert [answer.json() for answer in apart] == [[1011], [1012]]
    assert len(arrivals) == 2 + 1 + 2 + 2
    assert (report.merging, report.alerts) == (False, ("merging-ended",))


@pytest.mark.parametrize(
    ("fault", "linked"),
    [({"kind": "reset-before"}, [1001]), ({"kind": "reset-after"}, []), ({"kind": "hang", "seconds": 0.3}, [1001])],
    ids=["before the work", "after the work", "never answered"],
)
async def test_a_lost_answer_is_asked_for_again_and_said_to_be_uncertain(tmp_path: Path, fault: dict[str, Any], linked: list[int]) -> None:
    """Linking is idempotent, so the call is sent again; its list may lack what the first attempt linked."""
    async with rigged(tmp_path) as rig:
        await rig.plan(fault | {"count": 1})
        answer = await rig.link("orderIds=1001")
        records = await rig.records()

    assert answer.status_code == 200
    assert answer.json() == linked
    assert (answer.headers["Gateway-Attempts"], answer.headers["Gateway-Uncertain"]) == ("2", "true")
    assert [record["attempt"] for record in records_of(records, "send:intent")] == [1, 2]
    assert records_of(records, "call:outcome")[0]["uncertain"] is True


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_passing_fault_is_tried_three_times_in_all(tmp_path: Path, status: int) -> None:
    """Then the caller gets the fault's problem."""
    async with rigged(tmp_path) as rig:
        await rig.plan({"kind": "status", "status": status})
        answer = await rig.link("orderIds=1001")
        arrivals = await rig.arrivals()

    assert (answer.status_code, code_of(answer)) == (502, "upstream-error")
    assert answer.headers["Gateway-Attempts"] == "3"
    assert len(arrivals) == 3


@pytest.mark.parametrize("form", ["seconds", "date", "absent"])
async def test_a_429_is_waited_out_and_sent_again(tmp_path: Path, form: str) -> None:
    """For as long as it asks, or a second; the whole lane pauses, and the caller gets its result."""
    async with rigged(tmp_path) as rig:
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=7), usegmt=True)
        retry_after = {"seconds": "2", "date": date, "absent": None}[form]
        await rig.plan({"kind": "rate-limited", "count": 1} | ({"retry_after": retry_after} if retry_after else {}))
        first = asyncio.create_task(rig.link("orderIds=1001"))
        second = asyncio.create_task(rig.link("orderIds=1002"))
        answers, arrivals = [await first, await second], await rig.arrivals()

    assert [answer.json() for answer in answers] == [[1001], [1002]]
    assert max(int(answer.headers["Gateway-Attempts"]) for answer in answers) == 2
    assert arrivals[-1] - arrivals[0] >= {"seconds": 2, "date": 2, "absent": 1}[form]


async def test_a_429_that_outlasts_the_call_is_passed_on_at_once(tmp_path: Path) -> None:
    """Ten years are capped at a minute; who can't wait that long is told now, and so is who comes later."""
    async with rigged(tmp_path) as rig:
        await rig.plan({"kind": "rate-limited", "retry_after": "315360000", "count": 1})
        answer = await rig.link("orderIds=1001")
        later = await rig.link("orderIds=1002")
        pause = next(rig.house.dispatcher.reports()).pause

    assert (answer.status_code, code_of(answer), answer.headers["Retry-After"]) == (429, "upstream-429", "60")
    assert (later.status_code, code_of(later)) == (503, "wait-too-long")
    assert 50 < pause <= 60


async def test_three_refusals_of_the_token_suspend_it(tmp_path: Path) -> None:
    """The next call is refused here, with the time at which one may probe, and nothing is sent; a resumption ends it."""
    async with rigged(tmp_path) as rig:
        await rig.plan({"kind": "status", "status": 401, "count": 3})
        refused = [await rig.link(f"orderIds={1001 + number}") for number in range(3)]
        suspended = await rig.link("orderIds=1004")
        sent = len(await rig.arrivals())
        rig.house.dispatcher.resume(rig.house.vault.tokens[0].id)
        resumed = await rig.link("orderIds=1005")

    assert [code_of(answer) for answer in refused] == ["upstream-rejected-token"] * 3
    assert (suspended.status_code, code_of(suspended)) == (503, "token-suspended")
    assert 50 < int(suspended.headers["Retry-After"]) <= 60
    assert sent == 3
    assert resumed.status_code == 200


async def test_an_upstream_that_is_away_is_tried_until_the_deadline(tmp_path: Path) -> None:
    """What never left is sent again; at the deadline the caller learns that nobody was there, and nothing is uncertain."""
    async with rigged(tmp_path, upstream_url="http://127.0.0.1:9/") as rig:
        began = time.monotonic()
        answer = await rig.link("orderIds=1001", Prefer="wait=3")
        took = time.monotonic() - began

    assert (answer.status_code, code_of(answer)) == (502, "upstream-unreachable")
    assert int(answer.headers["Gateway-Attempts"]) > 2
    assert "Gateway-Uncertain" not in answer.headers
    assert took > 1.25


async def test_a_jump_of_the_wall_clock_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forth and an hour back: turns are counted on the monotonic clock."""
    true_time = time.time
    async with rigged(tmp_path) as rig:
        calls = [asyncio.create_task(rig.link(f"orderIds={1001 + number}")) for number in range(6)]
        for offset in (3_600, -3_600):
            monkeypatch.setattr(time, "time", lambda offset=offset: true_time() + offset)
            await asyncio.sleep(1)
        answers, arrivals = await asyncio.gather(*calls), await rig.arrivals()

    assert {answer.status_code for answer in answers} == {200}
    assert most_in_a_second(arrivals) <= 2
    assert len(arrivals) == 6
