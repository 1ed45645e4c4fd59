"""Every kind of record that a real gateway writes is as the published schema says, and canonical."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from jsonschema import Draft202012Validator

from app.administration import Administration
from app.audit import Name
from app.callers import GrantAsked, NewCaller
from app.declaration import Sources, apply, read_declaration
from app.domain import Role, TokenKind, TokenValue
from app.storage import reading
from app.vault import Keyring, NewToken, TokenChange
from tests.audit.deaths import announced, make_send, on, taken
from tests.audit.past import past
from tests.calls import make_call
from tests.rig import TOKEN, Rig, rigged
from tests.storage.database import migrated

FIRST, SECOND = bytes(range(32)), bytes(32)
MASTER_KEYS = ",".join(f"{name}:{base64.b64encode(secret).decode()}" for name, secret in (("k1", FIRST), ("k2", SECOND)))
PAGE = "https://shop.example"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER_TRACEPARENT = TRACEPARENT.replace("4bf9", "5bf9")
DECLARED_KEY = "fgk_0123456789ab:" + "0" * 64
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "audit.schema.json").read_text(encoding="utf-8"))
ANY_RECORD = Draft202012Validator(SCHEMA)


async def bodies(rig: Rig) -> list[str]:
    """Every record as it is stored, oldest first."""
    rig.house.audit.flush()
    await rig.house.audit.settled()
    async with reading(rig.house.engine) as connection:
        return list((await connection.exec_driver_sql("SELECT body FROM audit_records ORDER BY number")).scalars())


def faults(record: dict[str, Any]) -> list[str]:
    """Where a record isn't as its own name's definition says."""
    own = Draft202012Validator({"$ref": f"#/$defs/{record['name']}", "$defs": SCHEMA["$defs"]})
    return [error.message for error in own.iter_errors(record)]


async def calls(rig: Rig) -> None:
    """Calls that go well and otherwise, of a service, of a page and of nobody."""
    await rig.link("orderIds=1001,1002", traceparent=TRACEPARENT, Origin=PAGE)
    await rig.link("orderIds=1001&channelIds=5")
    await rig.link("orderIds=1003&debug=true", traceparent=TRACEPARENT)
    await rig.client.patch(f"{rig.url}/orders/link?orderIds=1")
    for fault in ({"kind": "echo-token", "status": 200}, {"kind": "status", "status": 500}, {"kind": "status", "status": 401}):
        await rig.plan(fault | {"count": 1})
        await rig.link("orderIds=1004")
    held = asyncio.create_task(rig.link("orderIds=1005", Prefer="wait=1"))
    await rig.plan({"kind": "latency", "out": 0, "back": 1.5, "count": 1})
    await asyncio.gather(held, *(rig.link(f"orderIds={number}", Prefer="wait=1") for number in range(1006, 1012)))
    headers = {"Authorization": f"Bearer {rig.key}", "traceparent": TRACEPARENT}
    issued = await rig.client.post(f"{rig.url}/gateway/tickets", headers=headers, json={"origin": PAGE, "ids": [1001]})
    ticket = issued.json()["ticket"]
    await rig.client.patch(f"{rig.url}/orders/link?orderIds=1001", headers={"Authorization": f"Bearer {ticket}", "Origin": PAGE})


async def operations(rig: Rig) -> None:
    """What an operator does with the lanes of a running gateway."""
    _, key = await rig.administer(lambda administration: administration.add_caller(NewCaller("operator", role=Role.ADMIN)))
    headers = {"Authorization": f"Bearer {key.reveal()}", "traceparent": OTHER_TRACEPARENT, "X-Request-ID": "an-operators-request"}
    for path in ("tokens/shop/test", "lanes/shop/resume", "tokens/shop/disable", "tokens/shop/enable"):
        answer = await rig.client.post(f"{rig.url}/gateway/admin/{path}", headers=headers)
        assert answer.status_code == 200, answer.text


async def jobs(rig: Rig) -> None:
    """A batch that is asked for and cancelled."""
    headers = {"Authorization": f"Bearer {rig.key}"}
    asked = {"operation": "link-orders", "parameter": "orderIds", "ids": [*range(1, 1_001)]}
    accepted = await rig.client.post(f"{rig.url}/gateway/batches", headers=headers, json=asked)
    await rig.client.delete(rig.url + accepted.headers["Location"], headers=headers)


async def changes(administration: Administration) -> None:
    """Every change of tokens and callers that a command can make."""
    await administration.add_token(NewToken("spare", TokenKind.SOURCE, TokenValue("another-token-value-0002")))
    await administration.change_token("spare", TokenChange(rate=3))
    await administration.rotate_token("spare", TokenValue("another-token-value-0003"))
    await administration.set_token_enabled("spare", enabled=False)
    await administration.set_token_enabled("spare", enabled=True)
    new = NewCaller(
        "pages", (GrantAsked("shop"),), "shop", Role.AUDITOR, 2, "5/second", ("10.0.0.0/8",), (PAGE,), {"sub": "ä\U0001f600\x7f"}
    )
    await administration.add_caller(new)
    await administration.change_caller(NewCaller("pages", (GrantAsked("spare", ("link-orders",)),)))
    await administration.grant("pages", GrantAsked("shop"))
    await administration.revoke("pages", "shop")
    await administration.rotate_key("pages", grace=60)
    await administration.set_caller_enabled("pages", enabled=False)
    await administration.set_caller_enabled("pages", enabled=True)
    await administration.remove_caller("pages")
    await administration.remove_token("spare")


async def declarations(rig: Rig, folder: Path) -> None:
    """A configuration file that declares a caller's key, ends it, and lets go of it for another."""
    keyring = Keyring({"k1": FIRST, "k2": SECOND})
    for keys in (
        f"[{{sha256: '{DECLARED_KEY}'}}]",
        f"[{{sha256: '{DECLARED_KEY}', expires: '2099-01-01T00:00:00Z'}}]",
        f"[{{sha256: '{DECLARED_KEY.replace('ab:', 'cd:')}'}}]",
    ):
        (folder / "gateway.yaml").write_text(f"callers: [{{name: declared, keys: {keys}}}]", encoding="utf-8")
        await apply(rig.house.engine, keyring, read_declaration(folder / "gateway.yaml", Sources(), {}, ["link-orders"]))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a gateway put on record that did all this."""
    folder = tmp_path_factory.mktemp("records")

    async def drive() -> list[str]:
        async with rigged(folder / "state", (TOKEN,), cors_origins=(PAGE,), master_keys=MASTER_KEYS) as rig:
            await calls(rig)
            await operations(rig)
            await jobs(rig)
            await rig.administer(changes)
            await declarations(rig, folder)
            await Administration(rig.house.engine, Keyring({"k2": SECOND, "k1": FIRST}), "test:rig").reseal()
            return await bodies(rig)

    return asyncio.run(drive())


@pytest.fixture(scope="module")
def records(stored: list[str]) -> list[dict[str, Any]]:
    """The same, read."""
    return [json.loads(body) for body in stored]


def test_every_name_was_driven(records: list[dict[str, Any]]) -> None:
    """Nothing that a gateway writes is left out here, but what is removed, which is below."""
    assert {record["name"] for record in records} == set(Name) - {Name.AUDIT_PRUNED}


def test_every_record_is_as_the_published_schema_says(records: list[dict[str, Any]]) -> None:
    """By its own name's definition, and so by exactly one of all."""
    for record in records:
        assert faults(record) == []
        assert ANY_RECORD.is_valid(record)


def test_every_record_is_canonical(stored: list[str], records: list[dict[str, Any]]) -> None:
    """The bytes that are hashed are those that RFC 8785 makes of what they say."""
    assert [rfc8785.dumps(record).decode() for record in records] == stored


def test_a_call_is_found_by_its_trace(records: list[dict[str, Any]]) -> None:
    """All that tells of a request with a `traceparent` names its trace; nothing else does."""
    traced = [record["name"] for record in records if record.get("trace_id") == TRACE]

    assert traced == ["call:intent", "send:intent", "send:outcome", "call:outcome", "call:refused", "ticket:issued"]


def test_a_change_over_http_names_its_request(records: list[dict[str, Any]]) -> None:
    """Who made it with which credential, from where, in which request and trace; a command's change has none of these."""
    over_http = [record for record in records if record.get("by") == "caller:operator"]
    by_command = [record for record in records if record.get("by") == "test:rig"]

    assert [record["name"] for record in over_http] == ["token:tested", "token:resumed", "token:disabled", "token:enabled"]
    assert {(record["request_id"], record["trace_id"], record["address"]) for record in over_http} == {
        ("an-operators-request", OTHER_TRACEPARENT[3:35], "127.0.0.1")
    }
    assert all(re.fullmatch("[0-9a-f]{12}", record["by_credential_id"]) for record in over_http)
    assert not any({"by_credential_id", "request_id", "trace_id", "address"} & record.keys() for record in by_command)


def test_a_refused_call_is_found_by_its_order(records: list[dict[str, Any]]) -> None:
    """What it asked for stands on record, where it asked for one thing; what else it held doesn't."""
    refused = [(record["code"], record.get("parameter"), record.get("ids")) for record in records if record["name"] == "call:refused"]

    assert ("parameter-unknown", "orderIds", ["1003"]) in refused
    assert ("parameter-conflict", None, None) in refused


def test_an_outcome_tells_what_the_upstream_answered(records: list[dict[str, Any]]) -> None:
    """Its status stands with the call's own outcome, beside the waits and the send."""
    outcomes = {record["code"]: record for record in records if record["name"] == "call:outcome"}

    assert {code: outcomes[code]["upstream_status"] for code in ("ok", "upstream-error", "upstream-rejected-token")} == {
        "ok": 200,
        "upstream-error": 500,
        "upstream-rejected-token": 401,
    }
    assert {"queue_ms", "upstream_ms", "attempts", "send_id", "linked_ids", "uncertain"} <= outcomes["ok"].keys()


def test_no_record_holds_a_secret(stored: list[str]) -> None:
    """Neither a token's value nor a key; the canary tests search everything else."""
    text = "\n".join(stored)

    assert TOKEN.value not in text
    assert "another-token-value" not in text
    assert "fgk_" not in text


@pytest.mark.parametrize("kept", [True, False])
async def test_a_removal_is_as_the_published_schema_says(tmp_path: Path, kept: bool) -> None:  # noqa: FBT001 - a column of the table
    """With and without an archive; it is found by the chain that lost its beginning."""
    (archive := tmp_path / "archive").mkdir()
    async with past(tmp_path / "state") as house:
        chain = await house.write(days=9)
        await house.prune(days=8, archive=archive if kept else None)
        [removal] = [json.loads(body) for body in await house.all("SELECT body FROM audit_records WHERE name = 'audit:pruned'")]

    assert faults(removal) == []
    assert removal["pruned_chain"] == chain
    assert ("file" in removal) == ("sha256" in removal) == kept


async def test_what_a_dead_process_left_is_ended_as_the_published_schema_says(tmp_path: Path) -> None:
    """Calls that weren't sent, that perhaps were, and a send whose end nobody saw."""
    unsent, sent = make_call(1), make_call(2)
    async with migrated(tmp_path / "gateway.db") as engine, on(engine) as deaths:
        dead = await deaths.died(*taken(unsent, sent), *announced(make_send(sent)))
        await deaths.recovered()
        ends = [record for record in deaths.records() if record.get("process") == dead]

    assert sorted(record.get("code") or record["result"] for record in ends) == ["not-sent", "unknown", "unknown"]
    assert [faults(record) for record in ends] == [[], [], []]
