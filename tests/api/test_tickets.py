"""Tickets over HTTP: asking for one, calling with it, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx2
import jwt
import pytest
import pytest_asyncio

from app.administration import Administration
from app.callers import CallerStore, GrantAsked, NewCaller, Presented
from app.domain import Role, new_id
from app.main import create_app, house_of
from app.opening import open_state
from app.simulator.tokens import SimulatedToken
from app.storage import writing
from tests.rig import TOKEN, Rig, rigged, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TICKETS = "/gateway/tickets"
SHOP = "https://shop.example"
DESK = "https://desk.example"
STORE = SimulatedToken("store", "a-simulated-token-value-0002", "account")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway with two tokens, whose list names the shop."""
    async with rigged(tmp_path_factory.mktemp("state"), (TOKEN, STORE), cors_origins=(SHOP,)) as running:
        yield running


async def backend(rig: Rig, name: str, *grants: GrantAsked, **given: Any) -> str:
    """The key of a new caller, which may use the token `shop` unless told otherwise."""
    new = NewCaller(name, grants or (GrantAsked("shop"),), **given)
    _, key = await rig.administer(lambda administration: administration.add_caller(new))
    return str(key.reveal())


async def ask(rig: Rig, key: str, **body: Any) -> httpx2.Response:
    """A request for a ticket, for the shop's page unless told otherwise."""
    return await rig.client.post(rig.url + TICKETS, json={"origin": SHOP} | body, headers={"Authorization": f"Bearer {key}"})


async def ticket_of(rig: Rig, key: str, **body: Any) -> str:
    """A ticket."""
    answer = await ask(rig, key, **body)
    assert answer.status_code == 201
    return str(answer.json()["ticket"])


async def call(rig: Rig, ticket: str, query: str = "", origin: str | None = SHOP, **headers: str) -> httpx2.Response:
    """A call of a page with its ticket."""
    given = {"Authorization": f"Bearer {ticket}"} | ({"Origin": origin} if origin else {}) | headers
    return await rig.client.patch(f"{rig.url}/orders/link?{query}", headers=given)


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


async def issued(rig: Rig, caller: str) -> list[dict[str, Any]]:
    """The tickets on record of a caller."""
    return [one for one in await rig.records() if one["name"] == "ticket:issued" and one["caller"] == caller]


# --- asking


async def test_a_backend_gets_a_ticket_and_it_is_on_record(rig: Rig) -> None:
    """The answer tells what the ticket is good for; the record tells the same, and holds no credential."""
    key = await backend(rig, "asks")
    answer = await ask(rig, key)
    given = answer.json()
    claims = jwt.decode(given["ticket"], options={"verify_signature": False})
    [record] = await issued(rig, "asks")

    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert {name: given[name] for name in given.keys() - {"ticket", "expires_at"}} == {
        "origin": SHOP,
        "token": "shop",
        "operations": ["link-orders"],
        "parameter": None,
        "ids": None,
    }
    assert claims["exp"] - claims["iat"] == 300
    assert datetime.fromisoformat(given["expires_at"]).timestamp() == claims["exp"]
    assert {name: record[name] for name in ("ticket_id", "origin", "token", "operations", "request_id", "credential_id")} == {
        "ticket_id": claims["jti"],
        "origin": SHOP,
        "token": "shop",
        "operations": ["link-orders"],
        "request_id": answer.headers["X-Request-ID"],
        "credential_id": key.split("_")[1],
    }
    assert datetime.fromisoformat(record["expires_at"]).timestamp() == claims["exp"]
    assert given["ticket"].rpartition(".")[2] not in str(record)


async def test_a_ticket_for_ids_says_so_everywhere(rig: Rig) -> None:
    """In the answer, and on record, where IDs are texts."""
    answer = await ask(rig, await backend(rig, "ids"), ids=[7, 2**63 - 1], parameter="channelIds", expires_in=1)
    [record] = await issued(rig, "ids")

    assert (answer.json()["parameter"], answer.json()["ids"]) == ("channelIds", [7, 2**63 - 1])
    assert (record["parameter"], record["ids"]) == ("channelIds", ["7", str(2**63 - 1)])


async def test_the_largest_ticket_fits_a_header(rig: Rig) -> None:
    """250 of the longest IDs stay under the 8 KiB that proxies commonly allow, and the gateway takes them back."""
    largest = 2**63 - 1
    ticket = await ticket_of(rig, await backend(rig, "largest"), ids=list(range(largest - 249, largest + 1)))
    answer = await call(rig, ticket, "orderIds=1")

    assert len(f"Authorization: Bearer {ticket}\r\n") < 8 * 1024
    assert code_of(answer) == "ticket-ids-not-allowed"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"origin": DESK}, 403, "origin-not-allowed"),
        ({"origin": "null"}, 403, "origin-not-allowed"),
        ({"origin": "*"}, 403, "origin-not-allowed"),
        ({"token": "store"}, 403, "token-not-granted"),
        ({"token": "none"}, 403, "token-not-granted"),
        ({"operations": ["no-such-operation"]}, 403, "operation-not-granted"),
        ({"operations": []}, 400, "request-malformed"),
        ({"operations": "link-orders"}, 400, "request-malformed"),
        ({"ids": []}, 400, "request-malformed"),
        ({"ids": [0]}, 400, "request-malformed"),
        ({"ids": [-1]}, 400, "request-malformed"),
        ({"ids": [2**63]}, 400, "request-malformed"),
        ({"ids": ["1"]}, 400, "request-malformed"),
        ({"ids": [1.0]}, 400, "request-malformed"),
        ({"ids": [True]}, 400, "request-malformed"),
        ({"ids": list(range(1, 252))}, 400, "request-malformed"),
        ({"ids": [1], "parameter": "none"}, 400, "request-malformed"),
        ({"parameter": "orderIds"}, 400, "request-malformed"),
        ({"expires_in": 0}, 400, "request-malformed"),
        ({"expires_in": 3601}, 400, "request-malformed"),
        ({"expires_in": "300"}, 400, "request-malformed"),
        ({"expires_in": 299.5}, 400, "request-malformed"),
        ({"origin": None}, 400, "request-malformed"),
        ({"colour": "red"}, 400, "request-malformed"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cant_be_had_is_refused_and_none_is_given(rig: Rig, body: dict[str, Any], status: int, code: str) -> None:
    """Nothing beyond the caller's own, nothing that isn't understood; and no ticket is on record."""
    name = f"refused-{new_id()}"
    answer = await ask(rig, await backend(rig, name), **body)

    assert (answer.status_code, code_of(answer)) == (status, code)
    assert await issued(rig, name) == []


async def test_a_wrong_member_is_named(rig: Rig) -> None:
    """The problem says which member is wrong, and of an unknown one which there are."""
    key = await backend(rig, "named")
    wrong, unknown = await ask(rig, key, expires_in=0, ids=[0]), await ask(rig, key, colour="red")

    assert wrong.json()["detail"] == "missing or wrong in the body: expires_in, ids"
    assert "origin, parameter, token" in unknown.json()["detail"]


async def test_a_token_that_could_be_either_is_ambiguous(rig: Rig) -> None:
    """Without a default, a caller of several tokens names one."""
    key = await backend(rig, "two", GrantAsked("shop"), GrantAsked("store"))
    unnamed, named = await ask(rig, key), await ask(rig, key, token="store")
    default = await ask(rig, await backend(rig, "default", GrantAsked("shop"), GrantAsked("store"), default_token="store"))

    assert (unnamed.status_code, code_of(unnamed), unnamed.json()["tokens"]) == (400, "token-ambiguous", ["shop", "store"])
    assert [one.json()["token"] for one in (named, default)] == ["store", "store"]


async def test_the_origin_is_one_of_the_callers_own(rig: Rig) -> None:
    """A caller with origins of its own has these alone, not the gateway's."""
    key = await backend(rig, "desk", origins=(DESK,))

    assert [(await ask(rig, key, origin=origin)).status_code for origin in (DESK, SHOP)] == [201, 403]


async def test_only_json_of_a_bounded_size_is_read(rig: Rig) -> None:
    """A form, which a page can send unasked, is refused; so is a body beyond 64 KiB."""
    headers = {"Authorization": f"Bearer {await backend(rig, 'bodies')}"}
    form = await rig.client.post(rig.url + TICKETS, data={"origin": SHOP}, headers=headers)
    large = await rig.client.post(rig.url + TICKETS, json={"origin": "x" * 65_536}, headers=headers)

    assert (form.status_code, code_of(form)) == (415, "media-type-not-supported")
    assert (large.status_code, code_of(large)) == (413, "body-too-large")


async def test_strangers_are_refused_before_their_body_is_read(rig: Rig) -> None:
    """Without a credential the answer is 401, whatever the body."""
    answer = await rig.client.post(rig.url + TICKETS, content=b"x" * 70_000)

    assert (answer.status_code, code_of(answer)) == (401, "credentials-missing")


async def test_a_ticket_that_cant_be_put_on_record_isnt_given(rig: Rig) -> None:
    """No page may hold what nobody can prove."""
    key = await backend(rig, "unrecorded")
    async with writing(rig.house.engine):
        answer = await ask(rig, key)

    async def recorded() -> bool:
        return rig.house.audit.healthy

    await until(recorded)
    assert (answer.status_code, code_of(answer)) == (503, "audit-unavailable")
    assert answer.json()["detail"] == "the ticket can't be put on record, so it wasn't given out"


# --- calling


async def test_a_page_calls_with_its_ticket_and_the_record_names_both(rig: Rig) -> None:
    """The call goes in its caller's name; the record leads from it to the ticket's issue."""
    ticket = await ticket_of(rig, await backend(rig, "calls"))
    answer = await call(rig, ticket, "orderIds=1101")
    [record] = [one for one in await rig.records() if one["name"] == "call:outcome" and one["ids"] == ["1101"]]
    [issue] = await issued(rig, "calls")

    assert (answer.status_code, answer.json()) == (200, [1101])
    assert (record["caller"], record["origin"], record["credential_id"]) == ("calls", SHOP, f"ticket:{issue['ticket_id']}")


async def test_a_ticket_works_in_x_api_token_too(rig: Rig) -> None:
    """A page's client of Flxpoint puts it where the token was."""
    ticket = await ticket_of(rig, await backend(rig, "moved"))
    answer = await rig.client.patch(f"{rig.url}/orders/link", headers={"X-API-TOKEN": ticket, "Origin": SHOP})

    assert code_of(answer) == "parameter-missing"


@pytest.mark.parametrize("origin", [None, DESK, "null", "http://shop.example", f"{SHOP} {DESK}"])
async def test_a_ticket_is_good_on_its_page_only(rig: Rig, origin: str | None) -> None:
    """Without its very origin, on an origin of another caller's, it is refused; nothing is sent."""
    await backend(rig, f"elsewhere-{origin}".translate({ord(one): "-" for one in ":/ "}), origins=(DESK,))
    ticket = await ticket_of(rig, rig.key, token="shop")
    before = await rig.statistics()
    answer = await call(rig, ticket, "orderIds=1", origin)

    assert (answer.status_code, code_of(answer)) == (403, "origin-not-allowed")
    assert await rig.statistics() == before


async def test_a_ticket_is_good_on_one_of_its_callers_origins(rig: Rig) -> None:
    """Where the caller's pages may have two, the ticket's may have the one that it was made for."""
    ticket = await ticket_of(rig, await backend(rig, "two-sites", origins=(SHOP, DESK)), origin=DESK)

    assert [code_of(await call(rig, ticket, origin=one)) for one in (DESK, SHOP)] == ["parameter-missing", "origin-not-allowed"]


async def test_a_ticket_with_two_origins_is_refused(rig: Rig) -> None:
    """Two values are none, equal or not."""
    ticket = await ticket_of(rig, rig.key, token="shop")
    headers = [("Authorization", f"Bearer {ticket}"), ("Origin", SHOP), ("Origin", SHOP)]
    answer = await rig.client.patch(f"{rig.url}/orders/link", headers=headers)

    assert answer.status_code in {400, 403}


async def test_a_ticket_is_no_good_on_the_gateways_own_page(rig: Rig) -> None:
    """The documentation may be tried with a key, not with a page's ticket."""
    answer = await call(rig, await ticket_of(rig, rig.key, token="shop"), origin=rig.url)

    assert code_of(answer) == "origin-not-allowed"


async def test_a_ticket_is_for_one_token(rig: Rig) -> None:
    """Its caller may use two; the ticket's is chosen without a word, the other isn't granted."""
    ticket = await ticket_of(rig, rig.key, token="store")
    own = await call(rig, ticket, "orderIds=1111")
    other = await call(rig, ticket, "orderIds=1112", **{"Gateway-Token": "shop"})

    assert (own.status_code, own.headers["Gateway-Token"]) == (200, "store")
    assert code_of(other) == "token-not-granted"


async def test_a_ticket_for_ids_is_good_for_these_only(rig: Rig) -> None:
    """For the rest there is 403 without a send, which doesn't say which IDs they are; as another parameter's they are others."""
    ticket = await ticket_of(rig, await backend(rig, "only-ids"), ids=[1121, 1122])
    good = await call(rig, ticket, "orderIds=1121")
    before = await rig.statistics()
    refused = [await call(rig, ticket, query) for query in ("orderIds=1123", "orderIds=1121,1123", "channelIds=1121")]

    assert good.json() == [1121]
    assert [(one.status_code, code_of(one)) for one in refused] == [(403, "ticket-ids-not-allowed")] * 3
    assert "112" not in "".join(one.text.replace(one.headers["X-Request-ID"], "") for one in refused)
    assert await rig.statistics() == before
    assert [one["code"] for one in await rig.records() if one["name"] == "call:refused"][-3:] == ["ticket-ids-not-allowed"] * 3


async def test_a_ticket_opens_nothing_but_calls(rig: Rig) -> None:
    """An admin's ticket is no admin's, and no ticket makes tickets."""
    ticket = await ticket_of(rig, await backend(rig, "admin", role=Role.ADMIN))
    headers = {"Authorization": f"Bearer {ticket}", "Origin": SHOP}
    lanes = await rig.client.get(f"{rig.url}/gateway/admin/lanes", headers=headers)
    another = await rig.client.post(rig.url + TICKETS, json={"origin": SHOP}, headers=headers)

    assert (lanes.status_code, code_of(lanes)) == (403, "role-required")
    assert (another.status_code, code_of(another)) == (403, "operation-not-granted")


async def test_a_ticket_counts_on_its_callers_rate(rig: Rig) -> None:
    """Key and tickets share one limit: a backend gains nothing by handing out many."""
    key = await backend(rig, "slow", rate="5/hour")
    tickets = [await ticket_of(rig, key) for _ in range(3)]
    answers = [await call(rig, ticket) for ticket in tickets]

    assert [code_of(answer) for answer in answers] == ["parameter-missing", "parameter-missing", "caller-rate-exceeded"]
    assert answers[-1].json()["detail"] == "the gateway takes 5 per 1 hour from this caller"


async def test_one_visitor_doesnt_use_up_the_callers_rate(rig: Rig) -> None:
    """A ticket is refused beyond a tenth of the rate; its caller and other visitors call on."""
    key = await backend(rig, "visited", rate="20/hour")
    greedy, other = [await ticket_of(rig, key) for _ in range(2)]
    answers = [await call(rig, greedy) for _ in range(30)]

    assert [code_of(answer) for answer in answers] == ["parameter-missing"] * 2 + ["caller-rate-exceeded"] * 28
    assert code_of(await call(rig, other)) == "parameter-missing"
    assert (await ask(rig, key)).status_code == 201


async def test_a_ticket_that_lost_its_origin_counts_all_the_same(rig: Rig) -> None:
    """Whoever goes on with it takes of its caller's rate, and nothing is free."""
    key = await backend(rig, "moved-away", origins=(DESK,), rate="2/hour")
    ticket = await ticket_of(rig, key, origin=DESK)
    elsewhere = NewCaller("moved-away", (GrantAsked("shop"),), origins=("https://new.example",), rate="2/hour")
    await rig.administer(lambda administration: administration.change_caller(elsewhere))
    answers = [await call(rig, ticket, origin=DESK) for _ in range(2)]

    assert [code_of(answer) for answer in answers] == ["origin-not-allowed", "caller-rate-exceeded"]


async def test_a_gateways_restart_leaves_tickets_good(rig: Rig) -> None:
    """The signing key is kept: another process on the same database reads the ticket."""
    ticket = await ticket_of(rig, rig.key, token="shop")
    again = create_app(rig.settings)
    async with again.router.lifespan_context(again):
        caller = await house_of(again).services.callers.authenticate(Presented([f"Bearer {ticket}"]))

    assert caller.name == "order-service"


# --- its end


@pytest.mark.parametrize(
    ("name", "change", "status", "code"),
    [
        ("removed", lambda it: it.remove_caller("removed"), 401, "credentials-invalid"),
        ("revoked", lambda it: it.revoke("revoked", "shop"), 403, "operation-not-granted"),
        ("narrowed", lambda it: it.grant("narrowed", GrantAsked("shop", ("other",))), 403, "operation-not-granted"),
        ("rotated", lambda it: it.rotate_key("rotated"), 401, "credentials-invalid"),
        ("graceful", lambda it: it.rotate_key("graceful", grace=60), 400, "parameter-missing"),
    ],
    ids=["caller removed", "grant revoked", "operation taken back", "key rotated", "key rotated with grace"],
)
async def test_a_ticket_follows_its_caller(rig: Rig, name: str, change: Any, status: int, code: str) -> None:
    """It dies with its caller and with the key that it was asked with, which a rotation's grace keeps, and loses what its caller loses."""
    ticket = await ticket_of(rig, await backend(rig, name))
    before = await call(rig, ticket)
    await rig.administer(change)
    after = await call(rig, ticket, "" if name == "graceful" else "orderIds=1")

    assert code_of(before) == "parameter-missing"
    assert (after.status_code, code_of(after)) == (status, code)


async def test_a_ticket_dies_within_two_seconds_of_a_command(rig: Rig) -> None:
    """The running gateway sees by itself that another process removed the caller."""
    ticket = await ticket_of(rig, await backend(rig, "soon"))
    async with open_state(rig.settings) as (engine, keyring):
        await Administration(engine, keyring, "test:elsewhere").remove_caller("soon")

    async def dead() -> bool:
        return (await call(rig, ticket)).status_code == 401

    async with asyncio.timeout(2):
        await until(dead)


async def test_a_disabled_callers_ticket_is_dead(rig: Rig) -> None:
    """Disabling is as good as removing, for as long as it lasts."""
    key = await backend(rig, "paused", origins=(DESK,))
    ticket = await ticket_of(rig, key, origin=DESK)
    async with writing(rig.house.engine) as connection:
        await CallerStore().set_enabled(connection, "paused", enabled=False)
    await rig.house.refresh()
    disabled = await call(rig, ticket, origin=DESK)
    async with writing(rig.house.engine) as connection:
        await CallerStore().set_enabled(connection, "paused", enabled=True)
    await rig.house.refresh()

    assert (disabled.status_code, code_of(disabled)) == (401, "credentials-invalid")
    assert code_of(await call(rig, ticket, origin=DESK)) == "parameter-missing"


async def test_a_waiting_call_of_a_ticket_goes_with_its_caller(rig: Rig) -> None:
    """A call that waits when its caller is removed is not sent any more."""
    ticket = await ticket_of(rig, await backend(rig, "waits"))
    calls = [asyncio.create_task(call(rig, ticket, f"orderIds={number}")) for number in range(1131, 1139)]

    async def waiting() -> bool:
        return any(report.waiting for report in await rig.house.services.lanes.report())

    await until(waiting)
    await rig.administer(lambda administration: administration.remove_caller("waits"))
    answers = [await one for one in calls]

    assert [answer.status_code for answer in answers].count(401) >= 4
