"""Testing a token: what is sent, in whose turn, what is said of the token, and what of it is on record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from app.callers import NewCaller
from app.domain import Role, TokenKind, TokenValue
from app.settings import SHIPPED_CATALOGUE
from app.simulator.tokens import SimulatedToken
from app.vault import NewToken, TokenChange
from tests.rig import Rig, rigged, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKENS = [SimulatedToken(kind, f"a-simulated-token-value-{kind}", kind) for kind in ("account", "source", "channel")]
ADMIN = "/gateway/admin"
BAD_VALUE = "a-value-that-flxpoint-does-not-know"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway with a token of each kind, and one that Flxpoint doesn't know."""
    async with rigged(tmp_path_factory.mktemp("state"), TOKENS) as running:
        bad = NewToken("bad", TokenKind.SOURCE, TokenValue(BAD_VALUE))
        await running.administer(lambda administration: administration.add_token(bad))
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(rig: Rig) -> str:
    """An operator's key."""
    _, key = await rig.administer(lambda administration: administration.add_caller(NewCaller("operator", role=Role.ADMIN)))
    return str(key.reveal())


async def try_out(rig: Rig, key: str, name: str) -> httpx2.Response:
    """A test of a token."""
    return await rig.client.post(f"{rig.url}{ADMIN}/tokens/{name}/test", headers={"Authorization": f"Bearer {key}"})


def probed(answer: httpx2.Response) -> list[tuple[str, int]]:
    """What was asked, and which statuses came."""
    assert answer.status_code == 200, answer.text
    return [(one["operation"], one["status"]) for one in answer.json()["probes"]]


def said(answer: httpx2.Response) -> tuple[Any, ...]:
    """What is said of the token: kind on file, kind it seems to be, whether they agree, whether it is taken at all."""
    return tuple(answer.json()[name] for name in ("kind", "seems", "agrees", "accepted"))


@pytest.mark.parametrize(
    ("kind", "probes"),
    [
        ("account", [("get-account", 200)]),
        ("source", [("list-fulfillment-requests", 200), ("get-account", 403)]),
        ("channel", [("list-orders", 200), ("get-account", 403), ("list-fulfillment-requests", 403)]),
    ],
)
async def test_a_good_token_seems_to_be_what_is_on_file(rig: Rig, key: str, kind: str, probes: list[tuple[str, int]]) -> None:
    """The test says what was asked and answered, how long it took, and that Flxpoint takes the token as one of its kind."""
    answer = await try_out(rig, key, kind)

    assert probed(answer) == probes
    assert said(answer) == (kind, kind, True, True)
    assert all(0 < one["round_trip"] < 5 for one in answer.json()["probes"])


@pytest.mark.parametrize(("on_file", "true"), [("account", "channel"), ("source", "account"), ("channel", "source")])
async def test_a_wrong_kind_on_file_is_found_out(rig: Rig, key: str, on_file: str, true: str) -> None:
    """A token that Flxpoint takes, but not as what is on file, is told as what it seems to be, with a word of caution."""
    await rig.administer(lambda administration: administration.change_token(true, TokenChange(TokenKind(on_file))))

    answer = await try_out(rig, key, true)

    await rig.administer(lambda administration: administration.change_token(true, TokenChange(TokenKind(true))))
    assert said(answer) == (on_file, true, False, True)
    assert answer.json()["verdict"] == (
        f"Flxpoint takes it, but not as of kind {on_file}: by its answers it is of kind {true}, unless it may not do what was refused"
    )


async def test_a_token_that_isnt_accepted_at_all_is_told_apart(rig: Rig, key: str) -> None:
    """401 to everything is a bad token; a 403 among the refusals may be a kind, or a right, so that isn't said."""
    await rig.plan(*[{"kind": "status", "status": 403, "count": 1, "token": "account"}] * 3)

    unknown, forbidden = await try_out(rig, key, "bad"), await try_out(rig, key, "account")

    assert {status for _, status in probed(unknown)} == {401}
    assert said(unknown) == ("source", None, None, False)
    assert unknown.json()["verdict"] == "Flxpoint doesn't accept it at all (401): most likely it was withdrawn or mistyped"
    assert {status for _, status in probed(forbidden)} == {403}
    assert said(forbidden) == ("account", None, None, False)
    assert forbidden.json()["verdict"].startswith("Flxpoint refused it each time; a 403 may mean")


@pytest.mark.parametrize(
    ("fault", "probe"),
    [
        ({"kind": "status", "status": 500}, {"result": "refused", "status": 500}),
        ({"kind": "garbage-http"}, {"result": "garbled", "status": None}),
        ({"kind": "reset-before"}, {"result": "unreachable", "status": None}),
    ],
)
async def test_an_answer_that_tells_nothing_ends_the_test(rig: Rig, key: str, fault: dict[str, Any], probe: dict[str, Any]) -> None:
    """One that failed is shown as it was and not tried again: a test shows what one request met."""
    await rig.plan(fault | {"count": 1})

    answer = await try_out(rig, key, "account")

    [only] = answer.json()["probes"]
    assert {name: only[name] for name in probe} == probe
    assert said(answer) == ("account", None, None, False)
    assert answer.json()["verdict"] == "Flxpoint gave no clear answer; nothing can be said of the token"


async def test_an_answer_too_large_to_be_read_was_an_answer(rig: Rig, key: str) -> None:
    """Only the status matters, whatever follows it."""
    await rig.plan({"kind": "oversize", "size": 2**21, "count": 1})

    answer = await try_out(rig, key, "account")

    assert probed(answer) == [("get-account", 200)]
    assert said(answer) == ("account", "account", True, True)


async def test_probes_take_turns_among_the_calls(rig: Rig, key: str) -> None:
    """While calls wait, a test's requests come in their turn, never beside it: no second has more than two arrivals."""
    calls = [asyncio.create_task(rig.link(f"orderIds={number}", Gateway_Token="channel")) for number in range(3001, 3006)]
    tests = [asyncio.create_task(try_out(rig, key, "channel")) for _ in range(2)]

    answers = await asyncio.gather(*calls, *tests)

    arrivals = await rig.arrivals("channel")
    assert {answer.status_code for answer in answers} == {200}
    assert min(later - earlier for earlier, later in zip(arrivals, arrivals[2:], strict=False)) >= 1
    assert len(list(pairwise(arrivals))) >= 10


async def test_a_test_works_while_calls_are_suspended_and_ends_no_suspension(rig: Rig, key: str) -> None:
    """Breakers hold calls back, not tests; what a test finds of other operations neither closes nor opens one."""
    await rig.plan({"kind": "status", "status": 403, "count": 3, "token": "source"})
    calls = [await rig.link(f"orderIds={number}", Gateway_Token="source") for number in range(1, 5)]

    good = await try_out(rig, key, "source")
    after = await rig.link("orderIds=5", Gateway_Token="source")
    await rig.client.post(f"{rig.url}{ADMIN}/lanes/source/resume", headers={"Authorization": f"Bearer {key}"})
    for _ in range(2):
        await try_out(rig, key, "bad")
    lanes = await rig.house.services.lanes.report()

    assert calls[-1].json()["type"].endswith("/token-suspended")
    assert said(good) == ("source", "source", True, True)
    assert after.json()["type"].endswith("/token-suspended")
    assert [lane.breakers for lane in lanes if lane.token == "bad"] == [()]


async def test_a_test_is_on_record_with_who_made_it(rig: Rig, key: str) -> None:
    """Each request has its intent before and its outcome after, as any send; the test's own record has who, what and the end."""
    answer = await try_out(rig, key, "source")

    request_id = answer.headers["X-Request-ID"]
    records = [record for record in await rig.records() if record.get("request_id") == request_id]
    assert [record["name"] for record in records] == ["send:intent", "send:outcome"] * 2 + ["token:tested"]
    intent, outcome, end = records[0], records[1], records[-1]
    shown = {name: intent[name] for name in ("token", "caller", "operation", "test", "attempt")}
    assert shown == {"token": "source", "caller": "caller:operator", "operation": "list-fulfillment-requests", "test": True, "attempt": 1}
    assert not {"parameter", "ids"} & set(intent)
    assert (outcome["result"], outcome["upstream_status"], outcome["uncertain"]) == ("accepted", 200, False)
    assert {name: end[name] for name in ("by", "subject", "token", "seems", "code", "probes")} == {
        "by": "caller:operator",
        "subject": "source",
        "token": "source",
        "seems": "source",
        "code": "ok",
        "probes": ["list-fulfillment-requests: 200", "get-account: 403"],
    }
    assert not any(token.value in str(records) + answer.text for token in TOKENS)


async def test_a_test_that_cant_be_sent_is_a_problem(rig: Rig, key: str) -> None:
    """A disabled token isn't sent, to a test neither; a name that no token has is not found."""
    await rig.administer(lambda administration: administration.set_token_enabled("account", enabled=False))

    disabled, unknown = await try_out(rig, key, "account"), await try_out(rig, key, "none")

    await rig.administer(lambda administration: administration.set_token_enabled("account", enabled=True))
    assert (disabled.status_code, disabled.json()["type"]) == (503, "/gateway/problems/token-unavailable")
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "there is no token of that name")


async def test_a_token_disabled_during_its_test_is_on_record_as_such(rig: Rig, key: str) -> None:
    """A probe that waits for its turn is put out as a call is, and the test's record has the problem's code."""
    calls = [asyncio.create_task(rig.link(f"orderIds={number}", Gateway_Token="account")) for number in range(4001, 4006)]

    async def waits() -> bool:
        return any(lane.waiting for lane in await rig.house.services.lanes.report())

    await until(waits)
    test = asyncio.create_task(try_out(rig, key, "account"))

    async def joined() -> bool:
        return any("caller:operator" in lane.waiting for lane in await rig.house.services.lanes.report())

    await until(joined)
    await rig.administer(lambda administration: administration.set_token_enabled("account", enabled=False))
    answer = await test
    await asyncio.gather(*calls)

    await rig.administer(lambda administration: administration.set_token_enabled("account", enabled=True))
    [record] = [one for one in await rig.records() if one.get("request_id") == answer.headers["X-Request-ID"]]
    assert (answer.status_code, answer.json()["type"]) == (503, "/gateway/problems/token-unavailable")
    assert (record["name"], record["code"], record["probes"]) == ("token:tested", "token-unavailable", [])


async def test_a_token_disabled_between_two_probes_is_on_record_with_what_was_answered(rig: Rig, key: str) -> None:
    """A probe that isn't taken in any more ends the test with its problem; what came before isn't lost."""
    await rig.plan({"kind": "latency", "out": 0, "back": 1, "count": 1, "token": "source"})
    before = len(await rig.arrivals("source"))
    test = asyncio.create_task(try_out(rig, key, "source"))

    async def arrived() -> bool:
        return len(await rig.arrivals("source")) > before

    await until(arrived)
    await rig.administer(lambda administration: administration.set_token_enabled("source", enabled=False))
    answer = await test

    await rig.administer(lambda administration: administration.set_token_enabled("source", enabled=True))
    [record] = [one for one in await rig.records() if one["name"] == "token:tested" and one["request_id"] == answer.headers["X-Request-ID"]]
    assert (answer.status_code, answer.json()["type"]) == (503, "/gateway/problems/token-unavailable")
    assert (record["code"], record["probes"]) == ("token-unavailable", ["list-fulfillment-requests: 200"])


async def test_probes_are_not_offered_to_callers(rig: Rig) -> None:
    """They are no routes, and no operations that can be granted."""
    answer = await rig.client.get(f"{rig.url}/account", headers={"Authorization": f"Bearer {rig.key}"})

    assert answer.status_code == 404
    assert "/account" not in rig.app.openapi()["paths"]
    assert rig.house.services.operations == {"link-orders"}


async def test_a_catalogue_without_probes_tests_nothing(tmp_path: Path) -> None:
    """That is said, and nothing is sent."""
    text, mark = SHIPPED_CATALOGUE.read_text(encoding="utf-8"), "  # Probes:"
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(text.partition(mark)[0] + "components: {}\n", encoding="utf-8")
    async with rigged(tmp_path / "state", catalogue=catalogue) as rig:
        _, key = await rig.administer(lambda administration: administration.add_caller(NewCaller("operator", role=Role.ADMIN)))
        answer = await try_out(rig, key.reveal(), "shop")
        arrivals = (await rig.statistics())["arrivals"]

    assert (answer.status_code, arrivals) == (404, 0)
    assert answer.json()["detail"] == "the catalogue names no operation to test tokens with (x-gateway-probe)"
