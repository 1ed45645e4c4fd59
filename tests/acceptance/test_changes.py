"""Changes and failures while calls wait or are under way: what was allowed when a call came in must still be so when it is sent."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import httpx2

from app.callers import GrantAsked, NewCaller
from app.domain import TokenKind, TokenValue
from app.settings import SHIPPED_CATALOGUE
from app.simulator.tokens import SimulatedToken
from app.vault import NewToken, TokenChange
from tests.rig import TOKEN, Rig, rigged, until


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


def modes_in(folder: Path) -> dict[str, int]:
    """The modes of a folder's files."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def waiting_calls(rig: Rig, count: int, **headers: str) -> list[asyncio.Task[httpx2.Response]]:
    """Calls that wait for their turn."""
    tasks = [asyncio.create_task(rig.link(f"orderIds={1001 + number}", **headers)) for number in range(count)]
    await rig.taken_in(tasks)
    return tasks


async def test_a_token_disabled_while_calls_wait_is_not_used(tmp_path: Path) -> None:
    """Calls that wait get `token-unavailable` at once, and nothing is sent, or said to be about to be."""
    async with rigged(tmp_path) as rig:
        tasks = await waiting_calls(rig, 3)
        await rig.administer(lambda administration: administration.set_token_enabled("shop", enabled=False))
        answers = await asyncio.gather(*tasks)
        arrivals, records = (await rig.statistics())["arrivals"], await rig.records()

    assert [code_of(answer) for answer in answers] == ["token-unavailable"] * 3
    assert [answer.headers["Gateway-Attempts"] for answer in answers] == ["0"] * 3
    assert arrivals == 0
    assert [record["name"] for record in records if record["name"].startswith("send:")] == []


async def test_a_token_rotated_while_calls_wait_sends_them_with_its_new_value(tmp_path: Path) -> None:
    """In the order in which they came; the old value is not used any more."""
    spare = SimulatedToken("spare", "a-simulated-token-value-0009", "account")
    async with rigged(tmp_path, (TOKEN, spare)) as rig:
        await rig.administer(lambda administration: administration.remove_token("spare"))
        tasks = await waiting_calls(rig, 4)
        await rig.administer(lambda administration: administration.rotate_token("shop", TokenValue(spare.value)))
        answers = await asyncio.gather(*tasks)
        old, new, records = await rig.arrivals("shop"), await rig.arrivals("spare"), await rig.records()

    written = {record["send_id"] for record in records if record["name"] == "send:outcome" and record["written"]}
    sent = [record["ids"] for record in records if record["name"] == "send:intent" and record["send_id"] in written]
    assert [answer.json() for answer in answers] == [[1001], [1002], [1003], [1004]]
    assert sent == [["1001"], ["1002"], ["1003"], ["1004"]]
    assert (len(old), len(new)) == (0, 4)


async def test_a_token_whose_kind_changes_while_calls_wait_is_not_used_for_what_doesnt_take_it(tmp_path: Path) -> None:
    """Calls that wait already are held to the kind that is now on file: one that isn't accepted would only be refused by Flxpoint."""
    narrow = SHIPPED_CATALOGUE.read_text(encoding="utf-8").replace("token-kinds: [account, source, channel]", "token-kinds: [account]")
    (tmp_path / "catalogue.yaml").write_text(narrow, encoding="utf-8")
    async with rigged(tmp_path / "state", catalogue=tmp_path / "catalogue.yaml") as rig:
        tasks = await waiting_calls(rig, 2)
        await rig.administer(lambda administration: administration.change_token("shop", TokenChange(TokenKind.SOURCE)))
        answers = await asyncio.gather(*tasks)
        arrivals, records = (await rig.statistics())["arrivals"], await rig.records()

    assert [code_of(answer) for answer in answers] == ["token-kind-not-accepted"] * 2
    assert arrivals == 0
    assert not [record for record in records if record["name"] == "send:outcome" and record["written"]]


async def test_a_caller_removed_while_its_calls_wait_is_not_sent(tmp_path: Path) -> None:
    """A withdrawn credential and a revoked grant take effect on calls that wait already."""
    async with rigged(tmp_path) as rig:
        removed = await waiting_calls(rig, 2)
        await rig.administer(lambda administration: administration.remove_caller("order-service"))
        first = await asyncio.gather(*removed)
        _, key = await rig.administer(lambda administration: administration.add_caller(NewCaller("second", (GrantAsked("shop"),))))
        rig.key = key.reveal()
        blockers = await waiting_calls(rig, 3)
        await rig.administer(lambda administration: administration.revoke("second", "shop"))
        second = await asyncio.gather(*blockers)
        arrivals = (await rig.statistics())["arrivals"]

    assert [code_of(answer) for answer in first] == ["credentials-invalid"] * 2
    assert {code_of(answer) for answer in second if answer.status_code != 200} == {"token-not-granted"}
    assert arrivals == sum(answer.status_code == 200 for answer in second) < 3


async def test_a_callers_networks_and_origins_hold_for_calls_that_wait(tmp_path: Path) -> None:
    """Calls by key from a network that was taken away, and calls of a page whose origin was, are not sent any more."""
    page = "https://shop.example"
    async with rigged(tmp_path) as rig:
        new = NewCaller("pages", (GrantAsked("shop"),), origins=(page,))
        _, key = await rig.administer(lambda administration: administration.add_caller(new))
        proof = {"Authorization": f"Bearer {key.reveal()}"}
        given = await rig.client.post(f"{rig.url}/gateway/tickets", json={"origin": page}, headers=proof)
        by_page = await waiting_calls(rig, 3, Authorization=f"Bearer {given.json()['ticket']}", Origin=page)
        elsewhere = replace(new, origins=("https://desk.example",))
        await rig.administer(lambda administration: administration.change_caller(elsewhere))
        of_the_page = await asyncio.gather(*by_page)
        by_key = await waiting_calls(rig, 4, **proof)
        bound = replace(elsewhere, networks=("192.0.2.0/24",))
        await rig.administer(lambda administration: administration.change_caller(bound))
        of_the_key = await asyncio.gather(*by_key)
        arrivals = (await rig.statistics())["arrivals"]

    refused = [answer for answer in (*of_the_page, *of_the_key) if answer.status_code == 401]
    assert {answer.json()["detail"] for answer in refused} == {"the credential was withdrawn while the call waited; nothing was sent"}
    assert of_the_page[-1] in refused
    assert of_the_key[-1] in refused
    assert arrivals == 7 - len(refused)


async def test_a_token_removed_while_its_send_is_under_way_still_gets_its_answer(tmp_path: Path) -> None:
    """What Flxpoint did is answered and recorded; only the quota of a lane that is gone isn't told."""
    async with rigged(tmp_path) as rig:
        await rig.plan({"kind": "latency", "out": 0, "back": 1, "count": 1})
        [task] = await waiting_calls(rig, 1)

        async def arrived() -> int:
            return int((await rig.statistics())["arrivals"])

        await until(arrived)
        await rig.administer(lambda administration: administration.remove_token("shop"))
        answer = await task

    assert (answer.status_code, answer.json()) == (200, [1001])
    assert answer.headers["Gateway-Token"] == "shop"
    assert "RateLimit" not in answer.headers


async def test_two_token_names_are_refused_on_record(tmp_path: Path) -> None:
    """A known caller's malformed request is recorded with its reason, as any refusal."""
    async with rigged(tmp_path) as rig:
        headers = [("Authorization", f"Bearer {rig.key}"), ("Gateway-Token", "shop"), ("Gateway-Token", "shop")]
        answer = await rig.client.patch(f"{rig.url}/orders/link?orderIds=1", headers=headers)
        [record] = [one for one in await rig.records() if one.get("request_id") == answer.headers["X-Request-ID"]]

    assert code_of(answer) == "request-malformed"
    assert (record["name"], record["code"]) == ("call:refused", "request-malformed")


async def test_a_call_that_ran_out_of_time_says_how_long_it_waited(tmp_path: Path) -> None:
    """`Server-Timing` and the record tell the wait of a call that failed, too."""
    async with rigged(tmp_path) as rig:
        await rig.plan({"kind": "latency", "out": 0, "back": 3, "count": 1})
        answer = await rig.link("orderIds=1001", Prefer="wait=2")
        [outcome] = [one for one in await rig.records() if one["name"] == "call:outcome"]

    assert code_of(answer) == "deadline-exceeded"
    assert float(answer.headers["Server-Timing"].partition("dur=")[2].partition(",")[0]) > 100
    assert outcome["queue_ms"] > 100


async def test_every_call_has_its_end_on_record_when_the_house_closes(tmp_path: Path) -> None:
    """Calls that still wait at the very end are put out and recorded before the record is closed."""
    async with rigged(tmp_path, shutdown_grace=0.0) as rig:
        tasks = await waiting_calls(rig, 5)
        rig.house.begin_shutdown()
    await asyncio.gather(*tasks, return_exceptions=True)
    database = sqlite3.connect(tmp_path / "gateway.db")
    names = [name for (name,) in database.execute("SELECT name FROM audit_records")]
    database.close()

    assert names.count("call:intent") == 5
    assert names.count("call:outcome") == 5


async def test_a_failing_store_refuses_without_a_send_and_recovers_without_a_call(tmp_path: Path) -> None:
    """One patience, no attempt, no memory taken; once the store is well the gateway is ready again though nobody called."""
    async with rigged(tmp_path) as rig:
        aside = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        aside.execute("ALTER TABLE audit_records RENAME TO audit_records_aside")
        first = await rig.link("")
        refused = await rig.link("orderIds=1001")
        arrivals = (await rig.statistics())["arrivals"]
        aside.execute("ALTER TABLE audit_records_aside RENAME TO audit_records")
        aside.close()

        async def ready() -> bool:
            return (await rig.client.get(f"{rig.url}/gateway/health/ready")).status_code == 200

        await until(ready)
        taken = await rig.link("orderIds=1001")

    assert code_of(first) == "audit-unavailable"
    assert code_of(refused) == "audit-unavailable"
    assert refused.headers["Gateway-Attempts"] == "0"
    assert arrivals == 0
    assert taken.json() == [1001]


async def test_a_row_that_can_not_be_read_makes_the_gateway_unready_not_deaf(tmp_path: Path) -> None:
    """A broken row stops no later change from being seen."""
    async with rigged(tmp_path) as rig:
        hand = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None, check_same_thread=False)
        await asyncio.to_thread(hand.executescript, "UPDATE grants SET operations = 'not json'; UPDATE revision SET number = number + 1")

        async def status() -> int:
            return (await rig.client.get(f"{rig.url}/gateway/health/ready")).status_code

        async def unready() -> bool:
            return await status() == 503

        await until(unready)
        await asyncio.to_thread(hand.executescript, "DELETE FROM callers; DELETE FROM grants; DELETE FROM caller_keys")
        hand.close()

        async def gone() -> bool:
            return (await rig.link("")).status_code == 401

        await until(gone)

        assert await status() == 200


async def test_a_token_that_doesnt_open_keeps_no_caller_in(tmp_path: Path) -> None:
    """Beside a token that another master key sealed, a caller's removal counts, the other tokens work, and the gateway stays ready."""
    async with rigged(tmp_path) as rig:
        hand = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None, check_same_thread=False)
        other = NewToken("other", TokenKind.ACCOUNT, TokenValue("a-token-value-other"))
        await rig.administer(lambda administration: administration.add_token(other))
        await rig.administer(lambda administration: administration.grant("order-service", GrantAsked("other")))
        await asyncio.to_thread(hand.execute, "UPDATE tokens SET key_id = 'elsewhere' WHERE name = 'other'")
        hand.close()
        await rig.administer(lambda administration: administration.add_caller(NewCaller("leaver")))
        closed, good = await rig.link("orderIds=1001", Gateway_Token="other"), await rig.link("orderIds=1001", Gateway_Token="shop")
        ready = (await rig.client.get(f"{rig.url}/gateway/health/ready")).status_code
        await rig.administer(lambda administration: administration.remove_caller("order-service"))
        removed = await rig.link("orderIds=1001")

    assert (closed.status_code, code_of(closed)) == (503, "token-unavailable")
    assert (good.status_code, ready, removed.status_code) == (200, 200, 401)


async def test_the_state_is_its_owners_alone(tmp_path: Path) -> None:
    """Database, its companions, and the key can be read by nobody else, also in a folder that was there before."""
    async with rigged(tmp_path) as rig:
        await rig.link("")
        modes = modes_in(tmp_path)

    assert set(modes) >= {"gateway.db", "gateway.db-wal", "gateway.db-shm", "master.keys"}
    assert set(modes.values()) == {0o600}


async def test_the_ids_of_requests_stay_apart(tmp_path: Path) -> None:
    """Two requests of one caller-chosen ID are two calls on record."""
    async with rigged(tmp_path) as rig:
        await asyncio.gather(*(rig.link("orderIds=1", X_Request_ID="same") for _ in range(2)))
        records = [one for one in await rig.records() if one.get("request_id") == "same"]

    assert len({one["id"] for one in records}) == len(records) >= 2
