"""The callers' routes: a key is shown once, a change is on record and takes effect at once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from app.callers import GrantAsked, NewCaller
from app.domain import Role, TokenKind, TokenValue
from app.vault import NewToken
from tests import loopback
from tests.rig import TOKEN, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLERS = "/gateway/admin/callers"
SECRET = "A-secret/that+nobody=should-see-0001"
WHOLE: dict[str, Any] = {
    "grants": [{"token": "shop", "operations": ["link-orders"]}],
    "default_token": "shop",
    "role": "auditor",
    "weight": 3,
    "rate": "5/second",
    "networks": ["127.0.0.0/8"],
    "origins": ["https://shop.example"],
    "claims": {"sub": "service-7"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(rig: Rig) -> str:
    """An admin's key; there is a second token too."""
    other = NewToken("other", TokenKind.SOURCE, TokenValue("a-token-value-other"))
    await rig.administer(lambda administration: administration.add_token(other))
    _, key = await rig.administer(lambda administration: administration.add_caller(NewCaller("ada", role=Role.ADMIN)))
    return str(key.reveal())


@pytest_asyncio.fixture(loop_scope="module")
async def admin(rig: Rig, key: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with that key."""
    headers = {"Authorization": f"Bearer {key}"}
    async with loopback.async_client(base_url=rig.url, headers=headers, timeout=30) as client:
        yield client


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


async def test_a_change_that_this_process_cant_keep_to_isnt_called_done(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """It is made and on record; the answer says that this gateway goes on as before, since it can't read what is there."""
    await rig.administer(lambda administration: administration.add_caller(NewCaller("stale")))
    with closing(sqlite3.connect(rig.settings.database_path, isolation_level=None)) as hand:
        hand.execute("UPDATE callers SET networks = 'no json' WHERE name = 'stale'")
        answer = await admin.post(f"{CALLERS}/ada/disable")
        hand.execute("UPDATE callers SET networks = '[]' WHERE name = 'stale'")
        hand.execute("UPDATE callers SET enabled = 1 WHERE name = 'ada'")
    await rig.administer(lambda administration: administration.remove_caller("stale"))

    assert (answer.status_code, code_of(answer)) == (500, "internal-error")
    assert "goes on as before" in answer.json()["detail"]


async def called(rig: Rig, key: str, **headers: str) -> str:
    """How a call ends with a key that asks for nothing: `parameter-missing` where the caller may call."""
    given = {"Authorization": f"Bearer {key}"} | headers
    return code_of(await rig.client.patch(f"{rig.url}/orders/link", headers=given))


async def names_on_record(rig: Rig, subject: str) -> list[tuple[str, str]]:
    """What is on record of a caller: what, and by whom."""
    return [(record["name"], record["by"]) for record in await rig.records() if record.get("subject") == subject]


async def test_a_caller_is_added(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """The answer says where it is and what it is, with its key, which is shown nowhere else and works at once."""
    answer = await admin.post(CALLERS, json=WHOLE | {"name": "whole", "expires_in": 3600})

    made = answer.json()
    key = made.pop("key")
    [shown] = made["keys"]
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{CALLERS}/whole")
    assert {name: made[name] for name in WHOLE} == WHOLE
    assert (made["name"], made["enabled"], made["declared"]) == ("whole", True, False)
    assert datetime.fromisoformat(shown["expires"]) - datetime.now(UTC) <= timedelta(hours=1)
    assert key.startswith(f"fgk_{shown['id']}_")
    assert await called(rig, key) == "parameter-missing"
    for listed in ((await admin.get(f"{CALLERS}/whole")), await admin.get(CALLERS)):
        assert key.rpartition("_")[2] not in listed.text
    assert key.rpartition("_")[2] not in str(await rig.records())


async def test_a_caller_needs_no_more_than_a_name(admin: httpx2.AsyncClient) -> None:
    """What is left out is as the command line has it: no grants, no role, weight 1, a key without an end."""
    made = (await admin.post(CALLERS, json={"name": "plain"})).json()

    assert {name: made[name] for name in (*WHOLE, "name")} == {
        "name": "plain",
        "grants": [],
        "default_token": None,
        "role": None,
        "weight": 1,
        "rate": None,
        "networks": [],
        "origins": [],
        "claims": {},
    }
    assert made["keys"][0]["expires"] is None


async def test_a_change_leaves_what_it_doesnt_name(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """What is named takes the place of what was, null takes away, and keys stay."""
    before = (await admin.post(CALLERS, json=WHOLE | {"name": "changed"})).json()

    weighed = await admin.patch(f"{CALLERS}/changed", json={"weight": 9})
    gone: dict[str, Any] = {"role": None, "rate": None, "default_token": None, "grants": [], "claims": {}}
    bare = await admin.patch(f"{CALLERS}/changed", json=gone)

    key = before.pop("key")
    assert weighed.json() == before | {"weight": 9, "keys": weighed.json()["keys"]}
    assert [one["id"] for one in weighed.json()["keys"]] == [one["id"] for one in before["keys"]]
    assert bare.json() == before | {"weight": 9, "keys": bare.json()["keys"]} | gone
    assert await called(rig, key) == "parameter-missing"


async def test_every_change_is_on_record(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """With who made it and what was before and after; grants and keys by their names and IDs."""
    await admin.post(CALLERS, json={"name": "recorded"})
    await admin.patch(f"{CALLERS}/recorded", json={"weight": 2})
    await admin.put(f"{CALLERS}/recorded/grants/shop", json={"operations": ["link-orders"]})
    await admin.delete(f"{CALLERS}/recorded/grants/shop")
    await admin.post(f"{CALLERS}/recorded/rotate-key", json={})
    await admin.post(f"{CALLERS}/recorded/disable")
    await admin.post(f"{CALLERS}/recorded/enable")
    removed = await admin.delete(f"{CALLERS}/recorded")

    names = ["added", "changed", "granted", "revoked", "key-rotated", "disabled", "enabled", "removed"]
    assert await names_on_record(rig, "recorded") == [(f"caller:{name}", "caller:ada") for name in names]
    records = [record for record in await rig.records() if record.get("subject") == "recorded"]
    assert (records[1]["before"], records[1]["after"]) == (["weight=1"], ["weight=2"])
    assert (records[2]["before"], records[2]["after"]) == ([], ["shop:link-orders"])
    assert (removed.status_code, removed.content) == (204, b"")
    assert (await admin.get(f"{CALLERS}/recorded")).status_code == 404


async def test_grants_take_effect_with_their_answer(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """A token is given for some operations or for all, and taken back; the very next call finds it."""
    key = (await admin.post(CALLERS, json={"name": "granted"})).json()["key"]
    nothing = await called(rig, key, **{"Gateway-Token": "shop"})

    given = await admin.put(f"{CALLERS}/granted/grants/shop", json={})
    narrowed = await admin.put(f"{CALLERS}/granted/grants/shop", json={"operations": ["link-orders"]})
    link = await rig.client.patch(f"{rig.url}/orders/link?orderIds=1001", headers={"Authorization": f"Bearer {key}"})
    taken = await admin.delete(f"{CALLERS}/granted/grants/shop")
    refused = await rig.client.patch(f"{rig.url}/orders/link?orderIds=1001", headers={"Authorization": f"Bearer {key}"})

    assert nothing == "parameter-missing"
    assert given.json()["grants"] == [{"token": "shop", "operations": None}]
    assert narrowed.json()["grants"] == [{"token": "shop", "operations": ["link-orders"]}]
    assert link.json() == [1001]
    assert taken.json()["grants"] == []
    assert code_of(refused) == "operation-not-granted"


async def test_a_key_is_rotated(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """With a grace time both keys are good, and without one only the new, from the answer on."""
    first = (await admin.post(CALLERS, json={"name": "rotated"})).json()["key"]

    second = (await admin.post(f"{CALLERS}/rotated/rotate-key", json={"grace": 600, "expires_in": 86_400})).json()
    overlapping = [await called(rig, key) for key in (first, second["key"])]
    third = (await admin.post(f"{CALLERS}/rotated/rotate-key", json={})).json()
    afterwards = [await called(rig, key) for key in (first, second["key"], third["key"])]

    assert [one["expires"] is not None for one in second["keys"]] == [True, True]
    assert overlapping == ["parameter-missing"] * 2
    assert [one["expires"] for one in third["keys"]] == [None]
    assert afterwards == ["credentials-invalid", "credentials-invalid", "parameter-missing"]


async def test_a_caller_is_disabled_enabled_and_removed(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """Each takes effect with its answer."""
    key = (await admin.post(CALLERS, json={"name": "stopped"})).json()["key"]

    disabled = await admin.post(f"{CALLERS}/stopped/disable")
    stopped = await called(rig, key)
    enabled = await admin.post(f"{CALLERS}/stopped/enable")
    allowed = await called(rig, key)
    await admin.delete(f"{CALLERS}/stopped")
    gone = await called(rig, key)

    assert (disabled.json()["enabled"], enabled.json()["enabled"]) == (False, True)
    assert (stopped, allowed, gone) == ("credentials-invalid", "parameter-missing", "credentials-invalid")


async def test_a_grant_taken_back_during_a_change_doesnt_return(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """Changes that come together each begin with what the one before left."""
    await admin.post(CALLERS, json={"name": "crowded", "grants": [{"token": "shop"}, {"token": "other"}]})

    answers = await asyncio.gather(
        *(admin.patch(f"{CALLERS}/crowded", json={"weight": weight}) for weight in range(2, 6)),
        admin.delete(f"{CALLERS}/crowded/grants/shop"),
        *(admin.patch(f"{CALLERS}/crowded", json={"rate": f"{rate}/second"}) for rate in range(2, 6)),
    )

    assert {answer.status_code for answer in answers} == {200}
    row = await rig.administer(lambda administration: administration.caller("crowded"))
    assert row.grants == (GrantAsked("other"),)
    assert row.weight > 1
    assert row.rate is not None


NOT_THERE = "a grant, or the default token, names a token that there isn't"
MEMBERS = "claims, default_token, expires_in, grants, name, networks, origins, rate, role, weight"
ONLY = "the body must be an object with these members only"
WRONG: list[tuple[str, str, Any, int, str]] = [
    ("POST", CALLERS, {"name": "w", "colour": SECRET}, 400, f"{ONLY}: {MEMBERS}"),
    ("POST", CALLERS, [SECRET], 400, f"{ONLY}: {MEMBERS}"),
    ("POST", CALLERS, {"grants": SECRET}, 400, "missing or wrong in the body: grants, name"),
    ("POST", CALLERS, {"name": SECRET}, 400, "a caller's name has 1 to 64 letters, digits, dots, dashes and underscores"),
    ("POST", CALLERS, {"name": "w", "grants": [{"token": "shop", "colour": SECRET}]}, 400, "missing or wrong in the body: grants"),
    ("POST", CALLERS, {"name": "w", "grants": [{"token": SECRET}]}, 400, NOT_THERE),
    ("POST", CALLERS, {"name": "w", "default_token": SECRET}, 400, NOT_THERE),
    ("POST", CALLERS, {"name": "w", "default_token": "shop"}, 400, "the default token must be among the grants"),
    ("POST", CALLERS, {"name": "w", "grants": [{"token": "shop"}, {"token": "shop"}]}, 400, "a token has one grant at most"),
    (
        "POST",
        CALLERS,
        {"name": "w", "grants": [{"token": "shop", "operations": [SECRET]}]},
        400,
        "a grant's operations are among those of the catalogue: link-orders",
    ),
    ("POST", CALLERS, {"name": "w", "grants": [{"token": "shop", "operations": []}]}, 400, "missing or wrong in the body: grants"),
    ("POST", CALLERS, {"name": "w", "role": SECRET}, 400, "missing or wrong in the body: role"),
    ("POST", CALLERS, {"name": "w", "weight": 0}, 400, "a caller's weight is 1 to 1000"),
    ("POST", CALLERS, {"name": "w", "weight": True}, 400, "missing or wrong in the body: weight"),
    ("POST", CALLERS, {"name": "w", "rate": SECRET}, 400, "a caller's rate is one limit of at least one, such as 100/second"),
    (
        "POST",
        CALLERS,
        {"name": "w", "networks": [SECRET]},
        400,
        "a caller's network is written as 10.0.0.0/8, without bits beyond the mask",
    ),
    ("POST", CALLERS, {"name": "w", "claims": {"sub": 1}}, 400, "missing or wrong in the body: claims"),
    ("POST", CALLERS, {"name": "w", "expires_in": 0}, 400, "missing or wrong in the body: expires_in"),
    (
        "POST",
        CALLERS,
        {"name": TOKEN.value},
        400,
        "the name is a token's value, which must stand nowhere in the open: take another name, and another value at Flxpoint",
    ),
    ("POST", CALLERS, {"name": "order-service"}, 409, "there is a caller named order-service already"),
    ("PATCH", f"{CALLERS}/order-service", {}, 400, "there is nothing to change"),
    ("PATCH", f"{CALLERS}/order-service", {"name": SECRET}, 400, f"{ONLY}: {MEMBERS.replace('expires_in, ', '').replace('name, ', '')}"),
    ("PATCH", f"{CALLERS}/order-service", {"grants": [{"token": SECRET}]}, 400, NOT_THERE),
    ("PATCH", f"{CALLERS}/order-service", {"default_token": "other"}, 400, "the default token must be among the grants"),
    ("PATCH", f"{CALLERS}/none", {"weight": 1}, 404, "there is no caller of that name"),
    ("POST", f"{CALLERS}/order-service/rotate-key", {"grace": -1}, 400, "missing or wrong in the body: grace"),
    ("POST", f"{CALLERS}/order-service/rotate-key", {"key": SECRET}, 400, f"{ONLY}: expires_in, grace"),
    ("POST", f"{CALLERS}/none/rotate-key", {}, 404, "there is no caller of that name"),
    (
        "PUT",
        f"{CALLERS}/order-service/grants/shop",
        {"operations": [SECRET]},
        400,
        "a grant's operations are among those of the catalogue: link-orders",
    ),
    ("PUT", f"{CALLERS}/order-service/grants/none", {}, 404, "there is no token of that name"),
    ("PUT", f"{CALLERS}/none/grants/shop", {}, 404, "there is no caller of that name"),
]
CODES = {400: "request-malformed", 404: "not-found", 409: "conflict"}


@pytest.mark.parametrize(("method", "path", "body", "status", "detail"), WRONG)
async def test_what_is_wrong_is_told_and_never_said_back(  # noqa: PLR0913, PLR0917 - the table's columns
    rig: Rig, admin: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str], method: str, path: str, body: Any, status: int, detail: str
) -> None:
    """The problem says what is wrong; nothing that the body held is in the answer, in the log or on record, and nothing changed."""
    before = await rig.administer(lambda administration: administration.callers())
    capsys.readouterr()

    answer = await admin.request(method, path, json=body)

    streams = capsys.readouterr()
    assert (answer.status_code, code_of(answer), answer.json()["detail"]) == (status, CODES[status], detail)
    assert f"method={method}" in streams.out
    said = answer.text + str(answer.headers) + streams.out + streams.err + str(await rig.records())
    assert not any(secret in said for secret in (SECRET, TOKEN.value))
    after = await rig.administer(lambda administration: administration.callers())
    assert [row.as_new() for row in after] == [row.as_new() for row in before]


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b'{"name": "' + SECRET.encode(), "application/json", 400, "request-malformed"),
        (b"", "application/json", 400, "request-malformed"),
        (json.dumps({"name": SECRET}).encode(), "text/plain", 415, "media-type-not-supported"),
        (b" " * 65_537, "application/json", 413, "body-too-large"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", CALLERS), ("PATCH", f"{CALLERS}/ada"), ("POST", f"{CALLERS}/ada/rotate-key"), ("PUT", f"{CALLERS}/ada/grants/shop")],
)
async def test_what_is_no_json_is_refused(  # noqa: PLR0913, PLR0917 - the table's columns
    admin: httpx2.AsyncClient, method: str, path: str, content: bytes, kind: str, status: int, code: str
) -> None:
    """Each route that reads a body takes 64 KiB of well-formed JSON that says so, and nothing else."""
    answer = await admin.request(method, path, content=content, headers={"Content-Type": kind})

    assert (answer.status_code, code_of(answer)) == (status, code)
    assert SECRET not in answer.text


async def test_a_declared_caller_is_changed_in_its_file_only(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """What the configuration file declares is shown as such, and whatever would change it is a conflict that says so."""
    await rig.administer(lambda administration: administration.add_caller(NewCaller("declared", (GrantAsked("shop"),))))
    with closing(sqlite3.connect(rig.settings.database_path)) as database, database:
        database.execute("UPDATE callers SET declared = 1 WHERE name = 'declared'")
    path = f"{CALLERS}/declared"

    answers = [
        await admin.patch(path, json={"weight": 2}),
        await admin.post(f"{path}/rotate-key", json={}),
        await admin.post(f"{path}/disable"),
        await admin.post(f"{path}/enable"),
        await admin.put(f"{path}/grants/shop", json={}),
        await admin.delete(f"{path}/grants/shop"),
        await admin.delete(path),
    ]

    assert (await admin.get(path)).json()["declared"] is True
    assert [(answer.status_code, code_of(answer)) for answer in answers] == [(409, "conflict")] * 7


async def test_the_callers_routes_are_described(rig: Rig) -> None:
    """Our own OpenAPI gives each body and answer with every member explained; a key stands only where one is made."""
    document = rig.app.openapi()
    paths, schemas = document["paths"], document["components"]["schemas"]
    bodies = [
        paths[path][method]["requestBody"]["content"]["application/json"]["schema"]
        for path, method in (
            (CALLERS, "post"),
            (CALLERS + "/{name}", "patch"),
            (CALLERS + "/{name}/rotate-key", "post"),
            (CALLERS + "/{name}/grants/{token}", "put"),
        )
    ]

    assert all(body["additionalProperties"] is False for body in bodies)
    assert all(member["description"] for body in bodies for member in body["properties"].values())
    assert "$ref" not in str(bodies)
    assert "key" not in schemas["Caller"]["properties"]
    assert "key" in schemas["KeyedCaller"]["properties"]
