"""The simulator's own endpoints."""

from typing import Any

import httpx2
import pytest

from .clock import Clock


async def test_health_needs_no_token(client: httpx2.AsyncClient) -> None:
    """The simulator's own endpoints answer anyone, and count nothing."""
    del client.headers["X-API-TOKEN"]

    health = await client.get("/_simulator/health")

    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (await client.get("/_simulator/statistics")).json()["total"] == 0


async def test_tokens_are_listed_without_their_values(client: httpx2.AsyncClient) -> None:
    """A token is known by name and kind."""
    answer = await client.get("/_simulator/tokens")

    assert answer.json() == [
        {"name": "main", "kind": "account"},
        {"name": "warehouse", "kind": "source"},
        {"name": "shop", "kind": "channel"},
    ]


async def test_statistics_count_arrivals_refusals_and_statuses_by_name(client: httpx2.AsyncClient, clock: Clock) -> None:
    """What was seen and answered is counted per token, and strangers in one sum."""
    for _ in range(3):
        await client.get("/account")
    clock.advance(1)
    await client.get("/nowhere")
    await client.get("/account", headers={"X-API-TOKEN": "nobody"})

    answer = await client.get("/_simulator/statistics")

    assert answer.json()["tokens"]["main"] == {
        "arrivals": 4,
        "rate_limited": 1,
        "most_in_any_second": 3,
        "unanswered": 0,
        "statuses": {"200": 2, "404": 1, "429": 1},
    }
    assert (answer.json()["total"], answer.json()["unknown_token"]) == (5, 1)
    assert "token-value" not in answer.text


async def test_arrival_times_are_told_in_monotonic_seconds(client: httpx2.AsyncClient, clock: Clock) -> None:
    """A benchmark reads when each request of a token arrived, and computes what it wants from it."""
    await client.get("/account")
    clock.advance(0.25)
    await client.get("/account")

    answer = await client.get("/_simulator/arrivals", params={"token": "main"})

    assert answer.json() == [1000.0, 1000.25]


async def test_what_each_arrival_asked_for_is_told(client: httpx2.AsyncClient) -> None:
    """A test reads which IDs were sent, in the order of their arrival, refused requests included."""
    await client.patch("/orders/link?orderIds=1001,1002")
    await client.get("/account")
    await client.patch("/orders/link?orderIds=1003")

    answer = await client.get("/_simulator/targets", params={"token": "main"})

    assert answer.json() == ["/orders/link?orderIds=1001,1002", "/account", "/orders/link?orderIds=1003"]


@pytest.mark.parametrize("what", ["arrivals", "targets"])
async def test_arrivals_of_an_unknown_token_get_404(client: httpx2.AsyncClient, what: str) -> None:
    """The message names the token that isn't there."""
    answer = await client.get(f"/_simulator/{what}", params={"token": "nobody"})

    assert (answer.status_code, answer.json()) == (404, {"message": "No token is named 'nobody'."})


async def test_given_orders_replace_the_seed(client: httpx2.AsyncClient) -> None:
    """Seeded orders come with their items unmanaged, and can be read as they stand."""
    order = {"id": 7, "channel_id": 70, "items": [71, 72]}

    seeded = await client.post("/_simulator/seed", json={"orders": [order]})
    await client.patch("/orders/link?orderItemIds=72,100101")
    orders = await client.get("/_simulator/orders")

    assert seeded.json() == {"orders": 1}
    assert orders.json() == [{"id": 7, "channel_id": 70, "items": [{"id": 71, "linked": False}, {"id": 72, "linked": True}]}]


async def test_a_count_of_orders_can_be_seeded(client: httpx2.AsyncClient) -> None:
    """Numbered orders are made from a count and, if wanted, the first ID."""
    seeded = await client.post("/_simulator/seed", json={"count": 5, "first": 9000})
    orders = await client.get("/_simulator/orders", params={"first": 9002, "limit": 2})

    assert seeded.json() == {"orders": 5}
    assert [order["id"] for order in orders.json()] == [9002, 9003]


@pytest.mark.parametrize(
    ("seed", "reason"),
    [
        ({"orders": [{"id": 1, "channel_id": 1, "items": [5, 5]}]}, "two items share an ID"),
        ({"orders": [{"id": 0, "channel_id": 1, "items": []}]}, "greater than or equal to 1"),
        ({"count": 5, "last": 9}, "Extra inputs are not permitted"),
        ({"count": 1_000_000}, "less than or equal to 100000"),
    ],
)
async def test_a_wrong_seed_gets_422_with_its_reason(client: httpx2.AsyncClient, seed: dict[str, Any], reason: str) -> None:
    """A refused seed says what is wrong and changes nothing."""
    answer = await client.post("/_simulator/seed", json=seed)

    assert answer.status_code == 422
    assert reason in answer.json()["message"]


async def test_a_reset_clears_links_statistics_and_faults(client: httpx2.AsyncClient) -> None:
    """After a reset the simulator is as it was, its seed aside."""
    await client.post("/_simulator/seed", json={"count": 1})
    await client.patch("/orders/link?orderIds=1001")
    await client.post("/_simulator/faults", json={"kind": "hang"})

    reset = await client.post("/_simulator/reset")

    assert reset.json() == {"orders": 1}
    assert (await client.get("/_simulator/statistics")).json()["total"] == 0
    assert (await client.patch("/orders/link?orderIds=1001")).json() == [1001]


async def test_faults_are_planned_listed_and_cleared(client: httpx2.AsyncClient) -> None:
    """Posted faults join the plan in order, one or many at a time, until deleted."""
    await client.post("/_simulator/faults", json={"kind": "latency", "out": 0.5, "back": [0.1, 0.2]})
    posted = await client.post("/_simulator/faults", json=[{"kind": "status", "status": 500, "token": "shop"}])
    listed = await client.get("/_simulator/faults")
    deleted = await client.delete("/_simulator/faults")

    assert posted.status_code == 201
    assert [fault["kind"] for fault in posted.json()["faults"]] == ["latency", "status"]
    assert listed.json() == posted.json()
    assert listed.json()["faults"][0] == {
        "kind": "latency",
        "out": [0.5, 0.5],
        "back": [0.1, 0.2],
        "count": None,
        "token": None,
        "holding": None,
    }
    assert deleted.status_code == 204
    assert (await client.get("/_simulator/faults")).json() == {"faults": []}


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ({"kind": "earthquake"}, 422, "does not match any of the expected tags"),
        ({"kind": "hang", "token": "nobody"}, 404, "No token is named 'nobody'"),
        ({"kind": "status", "status": 200}, 422, "greater than or equal to 400"),
        ({"kind": "hang", "count": 0}, 422, "greater than or equal to 1"),
        ({"kind": "latency", "out": [2, 1]}, 422, "the smaller number of seconds comes first"),
        ({"kind": "redirect", "location": "/a\r\nb: c"}, 422, "String should match pattern"),
        ([{"kind": "hang"}] * 1001, 409, "at most 1000 faults"),
    ],
)
async def test_a_wrong_fault_is_refused_with_its_reason(
    client: httpx2.AsyncClient, fault: dict[str, Any] | list[Any], status: int, reason: str
) -> None:
    """A refused fault says what is wrong, and the plan stays as it was."""
    answer = await client.post("/_simulator/faults", json=fault)

    assert answer.status_code == status
    assert reason in answer.json()["message"]
    assert (await client.get("/_simulator/faults")).json() == {"faults": []}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/_simulator/nothing", 404), ("GET", "/_simulator/reset", 405), ("GET", "/docs", 404)],
)
async def test_what_is_not_there_is_refused_in_json(client: httpx2.AsyncClient, method: str, path: str, status: int) -> None:
    """No path answers a page: errors are JSON with a message."""
    answer = await client.request(method, path)

    assert answer.status_code == status
    assert "message" in answer.json()
