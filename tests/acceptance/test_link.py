"""Calls that go all the way, with the answers and headers of the contract."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from app.administration import Administration
from app.callers import GrantAsked, NewCaller
from app.opening import open_state
from app.simulator.tokens import SimulatedToken
from tests.rig import TOKEN, Rig, rigged, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOURCE = SimulatedToken("warehouse", "a-simulated-token-value-0002", "source")
CHANNEL = SimulatedToken("store", "a-simulated-token-value-0003", "channel")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway with three tokens, whose caller `order-service` may use `shop` only, and has a page."""
    given = {"cors_origins": ("https://shop.example",)}
    async with rigged(tmp_path_factory.mktemp("state"), (TOKEN, SOURCE, CHANNEL), **given) as running:
        for token in (SOURCE, CHANNEL):
            await running.administer(partial(Administration.revoke, name="order-service", token=token.name))
        yield running


async def key_of(rig: Rig, name: str, *grants: GrantAsked, default: str | None = None) -> dict[str, str]:
    """The credential of a new caller with these grants."""
    _, key = await rig.administer(lambda administration: administration.add_caller(NewCaller(name, grants, default)))
    return {"Authorization": f"Bearer {key.reveal()}"}


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


async def test_a_link_links_and_a_repeat_links_nothing_new(rig: Rig) -> None:
    """The answer is Flxpoint's own: the IDs of the orders that were linked, and none for a repeat."""
    first = await rig.link("orderIds=1001,1002")
    second = await rig.link("orderIds=1001,1002")

    assert (first.status_code, first.json()) == (200, [1001, 1002])
    assert (second.status_code, second.json()) == (200, [])


@pytest.mark.parametrize(
    ("query", "linked"),
    [
        ("orderIds=1010&orderIds=1011", [1010, 1011]),
        ("orderIds=1012%2C1013", [1012, 1013]),
        ("orderIds=%31014", [1014]),
        ("orderIds=1015,1015,1015", [1015]),
        ("orderItemIds=101601", [1016]),
        ("orderIds=9223372036854775807", []),
    ],
)
async def test_every_way_to_write_the_ids_is_understood(rig: Rig, query: str, linked: list[int]) -> None:
    """Comma-separated, repeated, percent-encoded, doubled IDs and the largest one are good calls."""
    answer = await rig.link(query)

    assert (answer.status_code, answer.json()) == (200, linked)


async def test_channels_are_linked(rig: Rig) -> None:
    """The third declared parameter works as the others do."""
    answer = await rig.link("channelIds=502")
    await rig.reset()

    assert answer.status_code == 200
    assert answer.json()


async def test_repeated_ids_are_sent_once_in_the_style_of_the_catalogue(rig: Rig) -> None:
    """What goes upstream is one parameter, comma-separated, each ID once."""
    answer = await rig.link("orderIds=1020&orderIds=1021,1020")
    records = [record for record in await rig.records() if record.get("request_id") == answer.headers["X-Request-ID"]]

    assert answer.json() == [1020, 1021]
    assert [record["ids"] for record in records if record["name"] == "send:intent"] == [["1020", "1021"]]


async def test_an_answer_carries_every_header_of_the_contract(rig: Rig) -> None:
    """A call's answer tells its ID, token, attempts, times, and what remains of the lane's quota."""
    answer = await rig.link("orderIds=1030", X_Request_ID="my-own-id", Prefer="wait=10")

    headers = answer.headers
    assert headers["X-Request-ID"] == "my-own-id"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Gateway-Token"] == "shop"
    assert headers["Gateway-Attempts"] == "1"
    assert re.fullmatch(r"queue;dur=\d+\.\d, upstream;dur=\d+\.\d", headers["Server-Timing"])
    assert headers["RateLimit-Policy"] == '"lane";q=2;w=1'
    assert re.fullmatch(r'"lane";r=[01];t=[12]', headers["RateLimit"])
    assert headers["Preference-Applied"] == "wait=10"
    assert "Gateway-Uncertain" not in headers


@pytest.mark.parametrize("given", ["", "a b", "ä", "x" * 129])
async def test_a_request_id_that_is_not_one_is_replaced(rig: Rig, given: str) -> None:
    """Only 1 to 128 visible ASCII characters are echoed."""
    answer = await rig.client.patch(f"{rig.url}/orders/link", headers={b"X-Request-ID": given.encode()})

    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["X-Request-ID"])


async def test_the_key_may_stand_where_a_flxpoint_client_puts_its_token(rig: Rig) -> None:
    """A client of Flxpoint moves over by changing its base URL and its token."""
    answer = await rig.client.patch(f"{rig.url}/orders/link?orderIds=1031", headers={"X-API-TOKEN": rig.key})

    assert answer.json() == [1031]


async def test_the_journey_is_on_record_in_order(rig: Rig) -> None:
    """Intent, send, its outcome and the call's outcome stand on record, with who, what and the end."""
    answer = await rig.link("orderIds=1032", Origin="https://shop.example")
    records = [record for record in await rig.records() if record.get("request_id") == answer.headers["X-Request-ID"]]

    assert [record["name"] for record in records] == ["call:intent", "send:intent", "send:outcome", "call:outcome"]
    intent, send, sent, outcome = records
    assert (intent["caller"], intent["address"], intent["origin"]) == ("order-service", "127.0.0.1", "https://shop.example")
    assert intent["credential_id"] == rig.key.split("_")[1]
    assert (intent["operation"], intent["parameter"], intent["ids"], intent["token"]) == ("link-orders", "orderIds", ["1032"], "shop")
    assert send["send_id"] == sent["send_id"]
    assert (sent["upstream_status"], sent["linked_ids"], sent["written"]) == (200, ["1032"], True)
    assert (outcome["code"], outcome["attempts"], outcome["linked_ids"]) == ("ok", 1, ["1032"])
    assert outcome["upstream_ms"] > 0


async def test_a_token_is_chosen_by_name_by_default_or_as_the_only_one(rig: Rig) -> None:
    """The header `Gateway-Token` names it, else the caller's default counts, else its only one."""
    both = (GrantAsked("shop"), GrantAsked("warehouse"))
    plain, with_default = await key_of(rig, "two-tokens", *both), await key_of(rig, "one-default", *both, default="warehouse")
    url = f"{rig.url}/orders/link?orderIds=1040"
    named = await rig.client.patch(url, headers=plain | {"Gateway-Token": "warehouse"})
    default = await rig.client.patch(url, headers=with_default)
    ambiguous = await rig.client.patch(url, headers=plain)

    assert named.headers["Gateway-Token"] == "warehouse"
    assert default.headers["Gateway-Token"] == "warehouse"
    assert (ambiguous.status_code, code_of(ambiguous)) == (400, "token-ambiguous")
    assert ambiguous.json()["tokens"] == ["shop", "warehouse"]


async def test_a_token_without_a_grant_can_not_be_told_from_one_that_is_not_there(rig: Rig) -> None:
    """A caller can't find out which tokens exist."""
    there, absent = await rig.link("orderIds=1", Gateway_Token="store"), await rig.link("orderIds=1", Gateway_Token="nowhere")

    assert (there.status_code, code_of(there)) == (403, "token-not-granted")
    assert there.json() | {"instance": ""} == absent.json() | {"instance": ""}


async def test_an_operation_that_is_not_granted_is_refused(rig: Rig) -> None:
    """A caller without any grant may not call."""
    answer = await rig.client.patch(f"{rig.url}/orders/link?orderIds=1", headers=await key_of(rig, "no-grants"))

    assert (answer.status_code, code_of(answer)) == (403, "operation-not-granted")


async def test_a_disabled_token_is_not_used(rig: Rig) -> None:
    """A token that an operator disabled gives 503 without a send, until it is enabled again."""
    key = await key_of(rig, "store-service", GrantAsked("store"))
    await rig.administer(lambda administration: administration.set_token_enabled("store", enabled=False))
    refused = await rig.client.patch(f"{rig.url}/orders/link?orderIds=1050", headers=key)
    await rig.administer(lambda administration: administration.set_token_enabled("store", enabled=True))
    taken = await rig.client.patch(f"{rig.url}/orders/link?orderIds=1050", headers=key)

    assert (refused.status_code, code_of(refused)) == (503, "token-unavailable")
    assert taken.json() == [1050]


async def test_the_caller_rate_bites_on_the_route(rig: Rig) -> None:
    """A caller over the gateway's own limit gets 429 with `Retry-After`; others are not concerned."""
    _, key = await rig.administer(
        lambda administration: administration.add_caller(NewCaller("chatty", (GrantAsked("shop"),), rate="3/minute"))
    )
    mine = {"X-API-TOKEN": key.reveal()}
    answers = [await rig.client.patch(f"{rig.url}/orders/link", headers=mine) for _ in range(5)]
    other = await rig.link("")

    assert [answer.status_code for answer in answers] == [400, 400, 400, 429, 429]
    assert code_of(answers[-1]) == "caller-rate-exceeded"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert other.status_code == 400


async def test_waiting_calls_break_no_window(rig: Rig) -> None:
    """However many calls wait, no second sees more than two arrivals, and every call is answered."""
    await rig.reset()
    answers = await asyncio.gather(*(rig.link(f"orderIds={1060 + n}") for n in range(12)))
    arrivals = await rig.arrivals()

    assert [answer.json() for answer in answers] == [[1060 + n] for n in range(12)]
    assert all(later - earlier >= 1 for earlier, later in zip(arrivals, arrivals[2:], strict=False))
    assert (await rig.statistics())["most_in_any_second"] == 2


async def test_a_wait_that_would_be_too_long_is_refused_at_once(rig: Rig) -> None:
    """A call that can't be answered within its `Prefer: wait` gets 503 with `Retry-After`, and is not sent."""
    waiting = [asyncio.create_task(rig.link(f"orderIds={1080 + n}")) for n in range(6)]
    await rig.taken_in(waiting)
    answer = await rig.link("orderIds=1090", Prefer="wait=1")
    await asyncio.gather(*waiting)

    assert (answer.status_code, code_of(answer)) == (503, "wait-too-long")
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["predicted_wait"] >= 2
    assert answer.headers["Gateway-Attempts"] == "0"
    assert (await rig.link("orderIds=1090")).json() == [1090]


async def test_a_caller_that_hangs_up_leaves_the_queue(rig: Rig) -> None:
    """A waiting call whose caller is gone is never sent, and that is on record."""
    ahead = [asyncio.create_task(rig.link(f"orderIds={1100 + n}")) for n in range(4)]
    await rig.taken_in(ahead)
    gone = asyncio.create_task(rig.link("orderIds=1110", X_Request_ID="gone"))
    await rig.taken_in([*ahead, gone])
    gone.cancel()
    await asyncio.gather(*ahead)

    async def abandoned() -> bool:
        return any(record.get("request_id") == "gone" and record.get("code") == "caller-gone" for record in await rig.records())

    await until(abandoned)

    names = [record["name"] for record in await rig.records() if record.get("request_id") == "gone"]
    assert names == ["call:intent", "call:outcome"]


async def test_a_revoked_caller_is_out_within_the_refresh(rig: Rig) -> None:
    """A key that was rotated away is refused."""
    key = await key_of(rig, "short-lived", GrantAsked("shop"))
    before = await rig.client.patch(f"{rig.url}/orders/link", headers=key)
    await rig.administer(lambda administration: administration.rotate_key("short-lived"))
    after = await rig.client.patch(f"{rig.url}/orders/link", headers=key)

    assert before.status_code == 400
    assert (after.status_code, code_of(after)) == (401, "credentials-invalid")


async def test_a_change_by_another_process_is_seen_without_being_told(rig: Rig, tmp_path: Path) -> None:
    """The gateway notices a change in the database by itself."""
    async with open_state(rig.settings) as (engine, keyring):
        _, key = await Administration(engine, keyring, f"test:{tmp_path.name}").add_caller(NewCaller("newcomer", (GrantAsked("shop"),)))

    async def known() -> bool:
        answer = await rig.client.patch(f"{rig.url}/orders/link", headers={"X-API-TOKEN": key.reveal()})
        return answer.status_code == 400

    await until(known)

    assert await known()


async def test_a_full_queue_is_refused(tmp_path: Path) -> None:
    """A lane takes so many waiting calls and no more; a caller has its own bound within it."""
    async with rigged(tmp_path, lane_depth=3, caller_depth=2) as small:
        key = await key_of(small, "another", GrantAsked("shop"))
        mine = [asyncio.create_task(small.link(f"orderIds={n}")) for n in range(1, 3)]
        await small.taken_in(mine)
        over_caller = await small.link("orderIds=3")
        theirs = asyncio.create_task(small.client.patch(f"{small.url}/orders/link?orderIds=4", headers=key))
        await small.taken_in([*mine, theirs])
        over_lane = await small.client.patch(f"{small.url}/orders/link?orderIds=5", headers=key)
        taken = [answer.status_code for answer in await asyncio.gather(*mine, theirs)]

    assert (over_caller.status_code, code_of(over_caller)) == (503, "queue-full")
    assert (over_lane.status_code, code_of(over_lane)) == (503, "queue-full")
    assert int(over_lane.headers["Retry-After"]) >= 1
    assert taken == [200, 200, 200]
