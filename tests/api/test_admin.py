"""The routes for operators: who may use them, what they show and do, and what of it is on record."""

from __future__ import annotations

import asyncio
from dataclasses import fields
from typing import Any

import httpx2
import pytest

from app.api.admin import Breaker, Lane
from app.callers import NewCaller
from app.dispatch import BreakerReport, LaneReport
from app.domain import Role
from app.storage import writing
from tests.rig import Rig, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

LANES = "/gateway/admin/lanes"
RESUME = f"{LANES}/shop/resume"
DENY = {"kind": "status", "status": 403, "count": 3}


async def key_of(rig: Rig, name: str, role: Role | None, rate: str | None = None) -> str:
    """The key of a new caller without grants."""
    _, key = await rig.administer(lambda administration: administration.add_caller(NewCaller(name, role=role, rate=rate)))
    return str(key.reveal())


async def ask(rig: Rig, method: str, path: str, key: str | None = None) -> httpx2.Response:
    """A request with a key, or without."""
    return await rig.client.request(method, rig.url + path, headers={"Authorization": f"Bearer {key}"} if key else {})


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


async def suspended(rig: Rig) -> None:
    """Have Flxpoint refuse the token until its breaker opens."""
    await rig.plan(DENY)
    answers = [await rig.link(f"orderIds={number}") for number in range(1, 5)]
    assert [code_of(answer) for answer in answers] == ["upstream-rejected-token"] * 3 + ["token-suspended"]


@pytest.mark.parametrize("role", [Role.ADMIN, Role.AUDITOR])
async def test_the_lanes_are_for_callers_with_a_role(rig: Rig, role: Role) -> None:
    """An admin and an auditor see every token's lane, with all that the lane reports."""
    answer = await ask(rig, "GET", LANES, await key_of(rig, f"reads-as-{role}", role))

    [lane] = answer.json()
    assert answer.status_code == 200
    assert set(lane) == {field.name for field in fields(LaneReport)}
    assert {name: lane[name] for name in ("token", "rate", "burst", "pacing", "waiting", "breakers", "in_flight", "merging", "alerts")} == {
        "token": "shop",
        "rate": 2,
        "burst": "window",
        "pacing": "learned",
        "waiting": {},
        "breakers": [],
        "in_flight": 0,
        "merging": False,
        "alerts": [],
    }


async def test_a_lane_tells_who_waits_and_what_was_sent(rig: Rig) -> None:
    """While calls wait, the lane counts them by caller and says how long the next would take; afterwards it tells what was sent."""
    key = await key_of(rig, "watches", Role.AUDITOR)
    calls = [asyncio.create_task(rig.link(f"orderIds={number}")) for number in range(2001, 2007)]
    seen: list[dict[str, Any]] = []

    async def waits() -> bool:
        seen[:] = (await ask(rig, "GET", LANES, key)).json()
        return bool(seen[0]["waiting"])

    await until(waits)
    before = seen[0]
    answers = await asyncio.gather(*calls)
    [after] = (await ask(rig, "GET", LANES, key)).json()

    assert {answer.status_code for answer in answers} == {200}
    assert list(before["waiting"]) == ["order-service"]
    assert 1 <= before["waiting"]["order-service"] <= 6
    assert before["predicted_wait"] > 0
    assert after["waiting"] == {}
    assert after["sent_last_minute"] >= 6
    assert 1 <= after["sent_last_second"] <= 2
    assert after["utilisation"] == pytest.approx(after["sent_last_minute"] / 120, abs=0.0001)
    assert 0 < after["smallest_round_trip"] <= after["median_round_trip"]


async def test_a_suspended_token_is_resumed_by_an_admin(rig: Rig) -> None:
    """The lane shows the open breaker; an admin closes it, which is on record with its name, and the next call goes out."""
    key = await key_of(rig, "resumes", Role.ADMIN)
    await suspended(rig)
    [lane] = (await ask(rig, "GET", LANES, key)).json()

    first = await ask(rig, "POST", RESUME, key)
    again = await ask(rig, "POST", RESUME, key)
    answer = await rig.link("orderIds=1010")

    assert [breaker["operation"] for breaker in lane["breakers"]] == ["link-orders"]
    assert 0 < lane["breakers"][0]["probes_in"] <= 60
    assert (first.status_code, first.json()) == (200, {"token": "shop", "operations": ["link-orders"]})
    assert again.json() == {"token": "shop", "operations": []}
    assert (answer.status_code, answer.json()) == (200, [1010])
    records = [record for record in await rig.records() if record["name"] == "token:resumed"]
    assert [(one["by"], one["subject"], one["operations"]) for one in records] == [
        ("caller:resumes", "shop", ["link-orders"]),
        ("caller:resumes", "shop", []),
    ]


async def test_what_cant_be_put_on_record_isnt_done(rig: Rig) -> None:
    """While the record can't be written a breaker stays open, and the problem says that nothing was changed."""
    key = await key_of(rig, "unrecorded", Role.ADMIN)
    await suspended(rig)

    async with writing(rig.house.engine):
        answer = await ask(rig, "POST", RESUME, key)
        still = await ask(rig, "GET", LANES, key)

    assert (answer.status_code, code_of(answer)) == (503, "audit-unavailable")
    assert answer.json()["detail"] == "this can't be put on record, so nothing was changed"
    assert len(still.json()[0]["breakers"]) == 1

    async def recorded() -> bool:
        return rig.house.audit.healthy

    await until(recorded)
    assert (await ask(rig, "POST", RESUME, key)).status_code == 200


async def test_a_token_that_is_not_there_is_not_resumed(rig: Rig) -> None:
    """An unknown token's name is not found, and leaves no record."""
    answer = await ask(rig, "POST", f"{LANES}/none/resume", await key_of(rig, "gropes", Role.ADMIN))

    assert (answer.status_code, code_of(answer)) == (404, "not-found")
    assert answer.json()["detail"] == "there is no token of that name"
    assert not [record for record in await rig.records() if record.get("subject") == "none"]


@pytest.mark.parametrize(
    ("method", "path", "role", "would_do"),
    [
        ("GET", LANES, None, ["admin", "auditor"]),
        ("POST", RESUME, None, ["admin"]),
        ("POST", RESUME, Role.AUDITOR, ["admin"]),
        ("POST", f"{LANES}/none/resume", None, ["admin"]),
    ],
)
async def test_a_caller_without_the_role_is_refused(rig: Rig, method: str, path: str, role: Role | None, would_do: list[str]) -> None:
    """The problem names the roles that would do, says nothing of what is there, and is counted on record as the caller's refusal."""
    name = f"roleless-{method}-{role}-{path.split('/')[-2]}"
    answer = await ask(rig, method, path, await key_of(rig, name, role))

    assert (answer.status_code, code_of(answer)) == (403, "role-required")
    assert answer.json()["roles"] == would_do
    [record] = [record for record in await rig.records() if record.get("caller") == name]
    assert {member: record[member] for member in ("name", "code", "count", "address")} == {
        "name": "refusals:counted",
        "code": "role-required",
        "count": 1,
        "address": "127.0.0.1",
    }


@pytest.mark.parametrize(("method", "path"), [("GET", LANES), ("POST", RESUME)])
async def test_a_stranger_is_refused_and_counted(rig: Rig, method: str, path: str) -> None:
    """Without a credential there is nothing to see, and the refusal is on record by address."""

    async def counted() -> int:
        records = [record for record in await rig.records() if record["name"] == "refusals:counted" and "caller" not in record]
        return sum(record["count"] for record in records if record["code"] == "credentials-missing")

    before = await counted()
    answer = await ask(rig, method, path)

    assert (answer.status_code, code_of(answer)) == (401, "credentials-missing")
    assert await counted() == before + 1


@pytest.mark.parametrize(("method", "path"), [("GET", LANES), ("POST", RESUME)])
async def test_the_limit_on_callers_holds_for_operators(rig: Rig, method: str, path: str) -> None:
    """An operator's requests count against its rate like all others."""
    key = await key_of(rig, f"hasty-{method}", Role.ADMIN, rate="2/hour")

    answers = [await ask(rig, method, path, key) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert code_of(answers[-1]) == "caller-rate-exceeded"
    assert int(answers[-1].headers["Retry-After"]) > 0


async def test_the_schema_has_every_member_of_a_report() -> None:
    """What a lane reports and what the API describes can't drift apart; every member says what it is."""
    for model, report in ((Lane, LaneReport), (Breaker, BreakerReport)):
        assert list(model.model_fields) == [field.name for field in fields(report)]
        assert all(field.description for field in model.model_fields.values())


async def test_the_lanes_are_described(rig: Rig) -> None:
    """Our own OpenAPI gives the lanes' schema, the credentials and the problems."""
    document = (await rig.client.get(f"{rig.url}/gateway/openapi.json")).json()

    reading, resuming = document["paths"][LANES]["get"], document["paths"][LANES + "/{token}/resume"]["post"]
    schema = reading["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["items"] == {"$ref": "#/components/schemas/Lane"}
    assert set(document["components"]["schemas"]) >= {"Breaker", "Lane", "Problem", "Resumed"}
    assert "HTTPValidationError" not in document["components"]["schemas"]
    assert reading["security"] == resuming["security"] == [{"gatewayKey": []}, {"gatewayKeyAsToken": []}]
    assert "`role-required`" in reading["responses"]["4XX"]["description"]
    assert "`not-found`" in resuming["responses"]["4XX"]["description"]
    assert "role-required" not in str(document["paths"]["/orders/link"])
