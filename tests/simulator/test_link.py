"""The upstream's operations, as a client sees them."""

import httpx2
import pytest

from .clock import Clock


async def test_linking_answers_the_orders_that_changed(client: httpx2.AsyncClient) -> None:
    """A call answers 200 and a JSON array of order IDs; its repeat answers an empty one."""
    first = await client.patch("/orders/link?orderIds=1002,1001")
    repeat = await client.patch("/orders/link?orderIds=1002,1001")

    assert (first.status_code, first.json()) == (200, [1001, 1002])
    assert first.headers["content-type"] == "application/json"
    assert (repeat.status_code, repeat.json()) == (200, [])


@pytest.mark.parametrize("value", ["account-token-value-1", "source-token-value-2", "channel-token-value-3"])
async def test_every_kind_of_token_may_link(client: httpx2.AsyncClient, value: str) -> None:
    """Account, Source and Channel tokens are all accepted by this operation."""
    answer = await client.patch("/orders/link?orderItemIds=100101", headers={"X-API-TOKEN": value})

    assert answer.json() == [1001]


@pytest.mark.parametrize(
    "query",
    [
        "orderIds=1001&orderIds=1002",
        "orderIds=1001,1002&orderIds=",
        "orderIds=1001%2C1002&channelIds=",
        "orderItemIds=100101,100202,100201",
    ],
)
async def test_a_list_may_repeat_its_parameter_or_use_commas(client: httpx2.AsyncClient, query: str) -> None:
    """Arrays and comma-separated values mean the same, and empty values count as not passed."""
    answer = await client.patch(f"/orders/link?{query}")

    assert answer.json() == [1001, 1002]


async def test_channels_are_linked_whole(client: httpx2.AsyncClient) -> None:
    """A channel's ID links every order in it."""
    answer = await client.patch("/orders/link?channelIds=502")

    assert answer.json() == list(range(1002, 1201, 3))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "exactly one of orderIds, orderItemIds, channelIds"),
        ("orderIds=", "exactly one"),
        ("orderIds=1001&channelIds=501", "exactly one"),
        ("orderids=1001", "Unknown parameter"),
        ("orderIds=1001&page=2", "Unknown parameter"),
        ("orderIds=abc", "positive 64-bit integers"),
        ("orderIds=0", "positive 64-bit integers"),
        ("orderIds=-1", "positive 64-bit integers"),
        ("orderIds=1001,,1002", "positive 64-bit integers"),
        ("orderIds=1001,%201002", "positive 64-bit integers"),
        ("orderIds=%D9%A1", "positive 64-bit integers"),
        (f"orderIds={2**63}", "positive 64-bit integers"),
        ("orderIds=" + ",".join(map(str, range(1, 52))), "at most 50 values"),
        ("orderIds=1&" * 51, "at most 50 values"),
    ],
)
async def test_a_query_that_breaks_a_rule_gets_400(client: httpx2.AsyncClient, query: str, reason: str) -> None:
    """Exactly one defined parameter, with 1 to 50 positive 64-bit integers."""
    answer = await client.patch(f"/orders/link?{query}")

    assert answer.status_code == 400
    assert reason in answer.json()["message"]


async def test_the_largest_id_and_the_longest_list_are_accepted(client: httpx2.AsyncClient) -> None:
    """50 values are allowed, up to 2^63 - 1."""
    ids = [2**63 - 1, *range(1, 50)]

    answer = await client.patch("/orders/link", params={"orderIds": ",".join(map(str, ids))})

    assert (answer.status_code, answer.json()) == (200, [])


async def test_a_body_gets_400_and_links_nothing(client: httpx2.AsyncClient) -> None:
    """The operation takes no request body, and says so before it does anything."""
    refused = await client.patch("/orders/link?orderIds=1001", content=b"{}")
    accepted = await client.patch("/orders/link?orderIds=1001")

    assert refused.status_code == 400
    assert accepted.json() == [1001]


async def test_only_account_tokens_read_the_account(client: httpx2.AsyncClient) -> None:
    """A good Source or Channel token gets 403 where only an Account token may read."""
    account = await client.get("/account")
    source = await client.get("/account", headers={"X-API-TOKEN": "source-token-value-2"})
    channel = await client.get("/account", headers={"X-API-TOKEN": "channel-token-value-3"})

    assert (account.status_code, account.json()["id"]) == (200, 4711)
    assert (source.status_code, channel.status_code) == (403, 403)
    assert "message" in source.json()


@pytest.mark.parametrize(
    ("value", "statuses"),
    [("account-token-value-1", [200, 200]), ("source-token-value-2", [200, 200]), ("channel-token-value-3", [403, 200])],
)
async def test_what_may_be_read_depends_on_the_tokens_kind(client: httpx2.AsyncClient, value: str, statuses: list[int]) -> None:
    """Fulfillment requests are for account and source tokens, orders for all."""
    headers = {"X-API-TOKEN": value}

    answers = [await client.get(path, headers=headers) for path in ("/fulfillment-requests", "/orders")]

    assert [answer.status_code for answer in answers] == statuses
    assert answers[1].json()[0] == {"id": 1001}


async def test_an_unknown_path_gets_404_and_counts_as_an_arrival(client: httpx2.AsyncClient, clock: Clock) -> None:
    """A token's bucket is shared by all operations, those that don't exist included."""
    statuses = [(await client.get(path)).status_code for path in ("/order", "/orders/link/", "/account")]
    clock.advance(1)
    wrong_method = await client.get("/orders/link?orderIds=1")

    assert statuses == [404, 404, 429]
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "PATCH")


async def test_the_wrong_credential_gets_401(client: httpx2.AsyncClient) -> None:
    """An unknown or missing token gets 401, and the known mistake of a bearer token a hint."""
    unknown = await client.patch("/orders/link?orderIds=1001", headers={"X-API-TOKEN": "nobody"})
    del client.headers["X-API-TOKEN"]
    missing = await client.patch("/orders/link?orderIds=1001")
    bearer = await client.get("/account", headers={"Authorization": "Bearer account-token-value-1"})
    nowhere = await client.get("/nowhere")

    assert [answer.status_code for answer in (unknown, missing, bearer, nowhere)] == [401, 401, 401, 404]
    assert "X-API-TOKEN" in bearer.json()["message"]


async def test_the_third_call_in_a_second_gets_429(client: httpx2.AsyncClient, clock: Clock) -> None:
    """Each token has two arrivals a second of its own, counted before the call is looked at."""
    statuses = [(await client.patch("/orders/link")).status_code for _ in range(3)]
    other = await client.patch("/orders/link", headers={"X-API-TOKEN": "source-token-value-2"})
    clock.advance(1)
    later = await client.get("/account")

    assert statuses == [400, 400, 429]
    assert other.status_code == 400
    assert later.status_code == 200
