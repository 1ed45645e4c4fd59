"""The tokens' routes: a value goes in and never comes out, a change is on record and takes effect at once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from app.callers import NewCaller
from app.domain import Role, TokenKind, TokenValue
from app.simulator.tokens import SimulatedToken
from app.storage import writing
from app.vault import NewToken
from tests import loopback
from tests.rig import TOKEN, Rig, rigged

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = "/gateway/admin/tokens"
SPARE = SimulatedToken("spare", "a-simulated-token-value-spare", "account")
SECRET = "A-secret/that+nobody=should-see-0001"
NAME_IS_VALUE = "the name is a token's value, which must stand nowhere in the open: take another name, and another value at Flxpoint"
VALUE_IS_NAME = "the value is a token's or a caller's name, which stands in the open: have another value made at Flxpoint"
NEW = {"name": "new", "kind": "source", "value": SECRET}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway that knows one of the simulator's two tokens."""
    async with rigged(tmp_path_factory.mktemp("state"), (TOKEN, SPARE), caller_rate="10000/second") as running:
        await running.administer(lambda administration: administration.remove_token("spare"))
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(rig: Rig) -> str:
    """An admin's key."""
    await rig.administer(lambda administration: administration.add_caller(NewCaller("a-caller-with-a-long-name")))
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


async def last_records(rig: Rig, subject: str) -> list[dict[str, Any]]:
    """What is on record of a token, but for its ID, time and place, and the request that it came with."""
    left_out = {"id", "at", "chain", "seq", "number", "request_id", "address", "by_credential_id"}
    return [
        {name: member for name, member in record.items() if name not in left_out}
        for record in await rig.records()
        if record.get("subject") == subject
    ]


async def test_a_token_is_added(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """The answer says where it is and what it is but for its value, and so do the list and its own page."""
    answer = await admin.post(TOKENS, json=NEW | {"rate": 5, "burst": "spaced", "pacing": "proven"})

    token = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{TOKENS}/new")
    assert {name: token[name] for name in ("name", "kind", "rate", "burst", "pacing", "enabled", "declared")} == {
        "name": "new",
        "kind": "source",
        "rate": 5,
        "burst": "spaced",
        "pacing": "proven",
        "enabled": True,
        "declared": False,
    }
    assert len(token["fingerprint"]) == 8
    assert token["created"] == token["rotated"]
    assert (await admin.get(f"{TOKENS}/new")).json() == token
    assert [one["name"] for one in (await admin.get(TOKENS)).json()] == ["new", "shop"]
    assert {lane.token for lane in await rig.house.services.lanes.report()} == {"new", "shop"}


async def test_every_change_is_on_record(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """With who made it, and what was before and after; values stand by their fingerprints."""
    added = (await admin.post(TOKENS, json=NEW | {"name": "recorded", "value": SECRET + "-2"})).json()
    await admin.patch(f"{TOKENS}/recorded", json={"rate": 3, "kind": "channel"})
    rotated = (await admin.post(f"{TOKENS}/recorded/rotate", json={"value": SECRET + "-3"})).json()
    await admin.post(f"{TOKENS}/recorded/disable")
    enabled = (await admin.post(f"{TOKENS}/recorded/enable")).json()
    removed = await admin.delete(f"{TOKENS}/recorded")

    traits = {"kind": "source", "rate": 2, "burst": "window", "pacing": "learned"}
    changed = traits | {"rate": 3, "kind": "channel"}
    by = {"by": "caller:ada", "subject": "recorded"}
    assert await last_records(rig, "recorded") == [
        by | {"name": "token:added", "after": traits | {"enabled": True, "fingerprint": added["fingerprint"]}},
        by | {"name": "token:changed", "before": traits, "after": changed},
        by | {"name": "token:rotated", "before": added["fingerprint"], "after": rotated["fingerprint"]},
        by | {"name": "token:disabled", "before": True, "after": False},
        by | {"name": "token:enabled", "before": False, "after": True},
        by | {"name": "token:removed", "before": changed | {"enabled": True, "fingerprint": rotated["fingerprint"]}},
    ]
    assert (enabled["enabled"], removed.status_code, removed.content) == (True, 204, b"")
    assert (await admin.get(f"{TOKENS}/recorded")).status_code == 404
    assert SECRET not in str(await rig.records())


async def test_a_change_takes_effect_with_its_answer(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """The very next call finds it: stopped, allowed again, paced anew, sent with the new value."""
    await admin.post(f"{TOKENS}/shop/disable")
    stopped = await rig.link("orderIds=1001")
    await admin.post(f"{TOKENS}/shop/enable")
    allowed = await rig.link("orderIds=1001")
    await admin.patch(f"{TOKENS}/shop", json={"rate": 50})
    [lane] = [one for one in await rig.house.services.lanes.report() if one.token == "shop"]
    await admin.patch(f"{TOKENS}/shop", json={"rate": 2})
    await admin.post(f"{TOKENS}/shop/rotate", json={"value": SPARE.value})
    rotated = await rig.link("orderIds=1002")
    arrived = len(await rig.arrivals("spare"))
    await admin.post(f"{TOKENS}/shop/rotate", json={"value": TOKEN.value})

    assert code_of(stopped) == "token-unavailable"
    assert (allowed.json(), rotated.json()) == ([1001], [1002])
    assert (lane.rate, arrived) == (50, 1)


WRONG: list[tuple[str, str, Any, int, str]] = [
    (
        "POST",
        TOKENS,
        NEW | {"colour": SECRET},
        400,
        "the body must be an object with these members only: burst, kind, name, pacing, rate, value",
    ),
    ("POST", TOKENS, [SECRET], 400, "the body must be an object with these members only: burst, kind, name, pacing, rate, value"),
    ("POST", TOKENS, {"value": SECRET}, 400, "missing or wrong in the body: kind, name"),
    ("POST", TOKENS, NEW | {"value": [SECRET]}, 400, "missing or wrong in the body: value"),
    ("POST", TOKENS, NEW | {"value": 10**15}, 400, "missing or wrong in the body: value"),
    ("POST", TOKENS, NEW | {"kind": SECRET}, 400, "missing or wrong in the body: kind"),
    ("POST", TOKENS, NEW | {"rate": SECRET}, 400, "missing or wrong in the body: rate"),
    ("POST", TOKENS, NEW | {"rate": "2"}, 400, "missing or wrong in the body: rate"),
    ("POST", TOKENS, NEW | {"rate": 0}, 400, "a token's rate is 1 to 1000 requests a second"),
    ("POST", TOKENS, NEW | {"rate": 2**63}, 400, "a token's rate is 1 to 1000 requests a second"),
    ("POST", TOKENS, NEW | {"name": SECRET}, 400, "a token's name has 1 to 64 letters, digits, dots, dashes and underscores"),
    (
        "POST",
        TOKENS,
        NEW | {"name": "short", "value": SECRET[:9]},
        400,
        "a token's value has 16 to 512 visible ASCII characters and no blanks",
    ),
    (
        "POST",
        TOKENS,
        NEW | {"name": "again", "value": TOKEN.value},
        409,
        "this value is held already: one token has one lane, under one name",
    ),
    ("POST", TOKENS, NEW | {"name": TOKEN.value}, 400, NAME_IS_VALUE),
    ("POST", TOKENS, NEW | {"name": SPARE.value, "value": SPARE.value}, 400, NAME_IS_VALUE),
    ("POST", f"{TOKENS}/shop/rotate", {"value": "a-caller-with-a-long-name"}, 400, VALUE_IS_NAME),
    ("POST", TOKENS, NEW | {"name": "shop"}, 409, "there is a token named shop already"),
    ("PATCH", f"{TOKENS}/shop", {"value": SECRET}, 400, "the body must be an object with these members only: burst, kind, pacing, rate"),
    ("PATCH", f"{TOKENS}/shop", {}, 400, "there is nothing to change: give a kind, a rate, a burst or a pacing"),
    ("PATCH", f"{TOKENS}/shop", {"rate": 1_001}, 400, "a token's rate is 1 to 1000 requests a second"),
    ("PATCH", f"{TOKENS}/none", {"rate": 1}, 404, "there is no token of that name"),
    ("POST", f"{TOKENS}/shop/rotate", {"value": SECRET, "name": "x"}, 400, "the body must be an object with these members only: value"),
    ("POST", f"{TOKENS}/shop/rotate", {"value": TOKEN.value}, 409, "this value is held already: one token has one lane, under one name"),
    ("POST", f"{TOKENS}/none/rotate", {"value": SECRET}, 404, "there is no token of that name"),
]
CODES = {400: "request-malformed", 404: "not-found", 409: "conflict"}


@pytest.mark.parametrize(("method", "path", "body", "status", "detail"), WRONG)
async def test_what_is_wrong_is_told_and_never_said_back(  # noqa: PLR0913, PLR0917 - the table's columns
    rig: Rig, admin: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str], method: str, path: str, body: Any, status: int, detail: str
) -> None:
    """The problem says which member is wrong; nothing that the body held is in the answer, in the log or on record, and nothing changed."""
    before = (await admin.get(TOKENS)).json()
    capsys.readouterr()

    answer = await admin.request(method, path, json=body)

    streams = capsys.readouterr()
    assert (answer.status_code, code_of(answer), answer.json()["detail"]) == (status, CODES[status], detail)
    assert f"method={method}" in streams.out
    for secret in (SECRET, SECRET[:9], TOKEN.value, SPARE.value):
        assert secret not in answer.text + str(answer.headers) + streams.out + streams.err
        assert secret not in str(await rig.records())
    assert (await admin.get(TOKENS)).json() == before


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b'{"name": "' + SECRET.encode(), "application/json", 400, "request-malformed"),
        (b'{"name": "a", "name": "b"}', "application/json", 400, "request-malformed"),
        (b"\xff", "application/json", 400, "request-malformed"),
        (b"", "application/json", 400, "request-malformed"),
        (json.dumps(NEW).encode(), "text/plain", 415, "media-type-not-supported"),
        (json.dumps(NEW).encode(), None, 415, "media-type-not-supported"),
        (b" " * 65_537, "application/json", 413, "body-too-large"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", TOKENS), ("PATCH", f"{TOKENS}/shop"), ("POST", f"{TOKENS}/shop/rotate")])
async def test_what_is_no_json_is_refused(  # noqa: PLR0913, PLR0917 - the table's columns
    admin: httpx2.AsyncClient, method: str, path: str, content: bytes, kind: str | None, status: int, code: str
) -> None:
    """Each route that reads a body takes 64 KiB of well-formed JSON that says so, and nothing else."""
    answer = await admin.request(method, path, content=content, headers={"Content-Type": kind} if kind else {})

    assert (answer.status_code, code_of(answer)) == (status, code)
    assert SECRET not in answer.text


async def test_a_declared_token_is_changed_in_its_file_only(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """What the configuration file declares is shown as such, and whatever would change it is a conflict that says so."""
    new = NewToken("declared", TokenKind.ACCOUNT, TokenValue("a-token-value-declared"))
    await rig.administer(lambda administration: administration.add_token(new))
    with closing(sqlite3.connect(rig.settings.database_path)) as database, database:
        database.execute("UPDATE tokens SET declared = 1 WHERE name = 'declared'")
    path = f"{TOKENS}/declared"

    answers = [
        await admin.patch(path, json={"rate": 1}),
        await admin.post(f"{path}/rotate", json={"value": SECRET + "-4"}),
        await admin.post(f"{path}/disable"),
        await admin.post(f"{path}/enable"),
        await admin.delete(path),
    ]

    assert (await admin.get(path)).json()["declared"] is True
    assert [(answer.status_code, code_of(answer)) for answer in answers] == [(409, "conflict")] * 5
    assert {answer.json()["detail"] for answer in answers} == {"declared is declared in the configuration file; change it there"}


async def test_what_cant_be_put_on_record_isnt_changed(rig: Rig, admin: httpx2.AsyncClient) -> None:
    """While the database can't be written, the problem says that nothing was changed."""
    before = (await admin.get(f"{TOKENS}/shop")).json()

    async with writing(rig.house.engine):
        answer = await admin.patch(f"{TOKENS}/shop", json={"rate": 9})

    assert (answer.status_code, code_of(answer)) == (503, "audit-unavailable")
    assert answer.json()["detail"] == "this can't be put on record, so nothing was changed"
    assert (await admin.get(f"{TOKENS}/shop")).json() == before


async def test_the_tokens_routes_are_described(rig: Rig) -> None:
    """Our own OpenAPI gives each body with its members, the value as write-only, and no answer that has one."""
    paths, schemas = rig.app.openapi()["paths"], rig.app.openapi()["components"]["schemas"]
    bodies = [
        paths[path][method]["requestBody"]["content"]["application/json"]["schema"]
        for path, method in ((TOKENS, "post"), (TOKENS + "/{name}", "patch"), (TOKENS + "/{name}/rotate", "post"))
    ]

    assert [sorted(body["properties"]) for body in bodies] == [
        ["burst", "kind", "name", "pacing", "rate", "value"],
        ["burst", "kind", "pacing", "rate"],
        ["value"],
    ]
    assert all(body["additionalProperties"] is False for body in bodies)
    assert all(body["properties"]["value"]["writeOnly"] for body in (bodies[0], bodies[2]))
    assert "value" not in schemas["Token"]["properties"]
    assert all(member["description"] for member in schemas["Token"]["properties"].values())
