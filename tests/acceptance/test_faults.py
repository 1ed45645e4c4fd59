"""Upstream faults, an audit store that fails, and a shutdown, as a caller sees them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.domain import Call
from tests.rig import Rig, rigged, until
from tests.upstream.peers import Blurting

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAULTS: dict[str, tuple[dict[str, Any], int, str, bool]] = {
    "server error": ({"kind": "status", "status": 500}, 502, "upstream-error", True),
    "client error": ({"kind": "status", "status": 404}, 404, "upstream-404", False),
    "bad request": ({"kind": "status", "status": 400}, 400, "upstream-bad-request", False),
    "rejected token": ({"kind": "status", "status": 401}, 502, "upstream-rejected-token", False),
    "garbage": ({"kind": "garbage"}, 502, "upstream-invalid-response", True),
    "redirect": ({"kind": "redirect", "location": "http://127.0.0.1:9/"}, 502, "upstream-invalid-response", True),
    "token echoed": ({"kind": "echo-token", "status": 400}, 400, "upstream-bad-request", False),
}


@pytest.mark.parametrize(("fault", "status", "code", "uncertain"), FAULTS.values(), ids=FAULTS.keys())
async def test_an_upstream_fault_has_its_problem(rig: Rig, fault: dict[str, Any], status: int, code: str, uncertain: bool) -> None:  # noqa: FBT001 - a column of the table
    """The caller gets the fault's own code, knows whether the work may be done, never sees the token, and it is on record."""
    await rig.plan(fault | {"count": 1})
    answer = await rig.link("orderIds=1001")
    records = [record for record in await rig.records() if record.get("request_id") == answer.headers["X-Request-ID"]]

    assert answer.status_code == status
    assert answer.json()["type"] == f"/gateway/problems/{code}"
    assert answer.headers.get("Gateway-Uncertain") == ("true" if uncertain else None)
    assert answer.headers["Gateway-Attempts"] == "1"
    assert "a-simulated-token-value" not in answer.text + str(answer.headers)
    assert (records[-1]["name"], records[-1]["code"], records[-1]["uncertain"]) == ("call:outcome", code, uncertain)
    names = [record["name"] for record in records if record["name"] != "token:echoed"]
    assert names == ["call:intent", "send:intent", "send:outcome", "call:outcome"]


async def test_an_echo_of_the_token_is_counted_recorded_and_reported(rig: Rig) -> None:
    """The record names the send and how often the value stood in its answer, and the lane's operators see it; also where all went well."""
    await rig.plan({"kind": "echo-token", "status": 200, "count": 1})
    answer = await rig.link("orderIds=1001")
    records = [record for record in await rig.records() if record.get("request_id") == answer.headers["X-Request-ID"]]
    [lane] = [lane for lane in await rig.house.services.lanes.report() if lane.token == "shop"]

    [echoed] = [record for record in records if record["name"] == "token:echoed"]
    [sent] = [record for record in records if record["name"] == "send:intent"]
    assert (echoed["send_id"], echoed["token"], echoed["finds"]) == (sent["send_id"], "shop", 12)
    assert "token-echoed" in lane.alerts


async def test_an_answer_that_comes_too_late_is_recorded_all_the_same(rig: Rig) -> None:
    """The caller gets 504 with `Gateway-Uncertain` at its deadline; the send is awaited and its result goes on record."""
    await rig.plan({"kind": "latency", "out": 0, "back": 2, "count": 1})
    answer = await rig.link("orderIds=1050", Prefer="wait=1")

    async def sent() -> list[dict[str, Any]]:
        return [one for one in await rig.records() if one["name"] == "send:outcome" and one["request_id"] == answer.headers["X-Request-ID"]]

    await until(sent)

    assert (answer.status_code, answer.headers["Gateway-Uncertain"]) == (504, "true")
    assert answer.json()["type"] == "/gateway/problems/deadline-exceeded"
    assert (await sent())[0]["linked_ids"] == ["1050"]


async def test_a_hang_up_while_sending_does_not_cut_the_send(rig: Rig) -> None:
    """The send of a caller that is gone is awaited and recorded as uncertain for it."""
    await rig.plan({"kind": "latency", "out": 0, "back": 1, "count": 1})
    asking = asyncio.create_task(rig.link("orderIds=1051", X_Request_ID="gone-while-sending"))

    async def named(name: str) -> list[dict[str, Any]]:
        return [one for one in await rig.records() if one["name"] == name and one["request_id"] == "gone-while-sending"]

    await until(lambda: named("send:intent"))
    await asyncio.sleep(0.1)
    asking.cancel()
    await until(lambda: named("send:outcome"))
    await until(lambda: named("call:outcome"))

    assert (await named("send:outcome"))[0]["linked_ids"] == ["1051"]
    [outcome] = await named("call:outcome")
    assert (outcome["code"], outcome["uncertain"]) == ("caller-gone", True)


async def test_what_can_not_be_audited_is_not_sent(tmp_path: Path) -> None:
    """While the store takes no writes a call gets 503, nothing goes upstream, the gateway isn't ready; and it recovers by itself."""
    async with rigged(tmp_path) as running:
        await until(lambda: _answered(running))
        before = (await running.statistics())["arrivals"]
        locker = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        refused = await running.link("orderIds=1002")
        locally = await running.link("orderIds=1&channelIds=2")
        await until(lambda: _ready(running, 503))
        sent_meanwhile = (await running.statistics())["arrivals"] - before
        locker.execute("ROLLBACK")
        locker.close()
        await until(lambda: _ready(running, 200))
        taken = await running.link("orderIds=1002")
        records = await running.records()

    ends = [one for one in records if one["name"] == "call:outcome" and one["code"] == "audit-unavailable"]
    assert all("send_id" not in one and one["attempts"] == 0 for one in ends)
    assert (refused.status_code, refused.json()["type"]) == (503, "/gateway/problems/audit-unavailable")
    assert (locally.status_code, locally.json()["type"]) == (503, "/gateway/problems/audit-unavailable")
    assert refused.headers["Retry-After"] == "1"
    assert sent_meanwhile == 0
    assert taken.json() == [1002]


async def test_a_defect_leaves_no_call_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was taken in and then failed by a defect is answered 500, and its outcome says so."""

    def broken(_call: Call) -> None:
        message = "a defect"
        raise RuntimeError(message)

    async with rigged(tmp_path) as running:
        await until(lambda: _answered(running))
        monkeypatch.setattr(running.house.dispatcher, "enter", broken)
        answer = await running.link("orderIds=1002")
        last = (await running.records())[-1]

    assert answer.status_code == 500
    assert (last["name"], last["code"], last["uncertain"]) == ("call:outcome", "internal-error", False)


@pytest.mark.parametrize("said", [b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", b""], ids=["says no", "says nothing"])
async def test_a_peer_that_hangs_up_on_every_connection_costs_one_a_send(tmp_path: Path, said: bytes) -> None:
    """The call ends, each connection belongs to a send on record that has its end there too, and the shutdown ends."""
    with Blurting(said) as peer:
        async with asyncio.timeout(30), rigged(tmp_path, upstream_url=peer.url) as running:
            answer = await running.link("orderIds=1001", Prefer="wait=2")
            await running.house.dispatcher.finish()
            names = Counter(record["name"] for record in await running.records())

    assert answer.status_code in {502, 504}
    assert names["send:intent"] == names["send:outcome"] == peer.accepted > 0
    assert names["call:outcome"] == 1


async def _answered(running: Rig) -> bool:
    return (await running.link("orderIds=1001")).status_code == 200


async def _ready(running: Rig, status: int) -> bool:
    return (await running.client.get(f"{running.url}/gateway/health/ready")).status_code == status


async def test_a_shutdown_lets_waiting_calls_go_on_and_then_puts_them_out(tmp_path: Path) -> None:
    """After the signal the gateway isn't ready; calls go on for the grace time; the rest get `shutting-down`, recorded, unsent."""
    async with rigged(tmp_path, shutdown_grace=2.0) as running:
        asking = [asyncio.create_task(running.link(f"orderIds={1001 + number}")) for number in range(10)]
        await running.taken_in(asking)
        running.house.begin_shutdown()
        running.house.begin_shutdown()
        ready = await running.client.get(f"{running.url}/gateway/health/ready")
        answers = await asyncio.gather(*asking)
        late = await running.link("orderIds=1100")
        arrivals = (await running.statistics())["arrivals"]

    codes = sorted(answer.status_code for answer in answers)
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["shutting down"])
    assert codes.count(200) == arrivals
    assert 1 <= codes.count(200) < 10
    assert codes.count(503) == 10 - codes.count(200)
    assert late.json()["type"] == "/gateway/problems/shutting-down"
