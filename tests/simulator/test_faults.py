"""The faults that plain HTTP can show."""

import base64
import json
import random
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from fastapi import FastAPI

from app.simulator.app import create_simulator
from app.simulator.connection import NoSocketError
from app.simulator.tokens import SimulatedToken

from .clock import Clock

LINK = "/orders/link?orderIds=1001"


async def plan(client: httpx2.AsyncClient, **fault: object) -> None:
    """Plan one fault."""
    (await client.post("/_simulator/faults", json=fault)).raise_for_status()


async def linked(client: httpx2.AsyncClient) -> bool:
    """Tell whether the first order has been linked."""
    order = (await client.get("/_simulator/orders", params={"limit": 1})).json()[0]
    return all(item["linked"] for item in order["items"])


async def test_a_latency_on_the_way_out_makes_the_request_arrive_later(client: httpx2.AsyncClient, clock: Clock) -> None:
    """The way out is the network's, so the upstream counts the arrival at its end; the way back comes after."""
    await plan(client, kind="latency", out=0.5, back=0.25)

    await client.patch(LINK)
    arrivals = await client.get("/_simulator/arrivals", params={"token": "main"})

    assert arrivals.json() == [1000.5]
    assert clock.now == 1000.75


async def test_a_latency_is_drawn_from_its_range_by_the_seeded_dice() -> None:
    """The same seed draws the same delays, all within the range."""

    async def delays() -> list[float]:
        clock = Clock(0.0)
        app = create_simulator([], clock=clock, sleep=clock.sleep, rng=random.Random(3))  # noqa: S311 - a seed, not a secret
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://upstream") as client:
            await plan(client, kind="latency", back=[0.25, 0.75])
            drawn = []
            for _ in range(20):
                before = clock.now
                await client.get("/account")
                drawn.append(clock.now - before)
            return drawn

    drawn = await delays()

    assert all(0.25 <= delay <= 0.75 for delay in drawn)
    assert len(set(drawn)) > 10
    assert await delays() == drawn


async def test_a_status_fault_answers_what_was_ordered(client: httpx2.AsyncClient) -> None:
    """The body, its type and Retry-After are as given, and nothing is linked."""
    await plan(client, kind="status", status=503, body="<h1>busy</h1>", content_type="text/html", retry_after="120")

    answer = await client.patch(LINK)

    assert (answer.status_code, answer.text) == (503, "<h1>busy</h1>")
    assert (answer.headers["content-type"], answer.headers["retry-after"]) == ("text/html", "120")
    assert not await linked(client)


@pytest.mark.parametrize(("status", "text"), [(500, "Internal Server Error"), (599, "Error")])
async def test_a_status_fault_without_body_answers_a_small_message(client: httpx2.AsyncClient, status: int, text: str) -> None:
    """An error without an ordered body has a plausible one."""
    await plan(client, kind="status", status=status)

    answer = await client.patch(LINK)

    assert (answer.status_code, answer.json()) == (status, {"message": text})
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("retry_after", ["5", "Wed, 21 Oct 2026 07:28:00 GMT", "soon", None])
async def test_a_429_carries_retry_after_exactly_as_given_or_not_at_all(client: httpx2.AsyncClient, retry_after: str | None) -> None:
    """A 429 comes though the rate was kept, with whatever Retry-After the test wants."""
    await plan(client, kind="rate-limited", retry_after=retry_after, count=1)

    limited = await client.patch(LINK)
    after = await client.patch(LINK)
    statistics = (await client.get("/_simulator/statistics")).json()["tokens"]["main"]

    assert (limited.status_code, limited.headers.get("retry-after")) == (429, retry_after)
    assert after.status_code == 200
    assert (statistics["rate_limited"], statistics["statuses"]["429"]) == (0, 1)


async def test_a_fault_does_not_excuse_a_wrong_token_or_rate(client: httpx2.AsyncClient) -> None:
    """Token and rate are checked first, and what they refuse uses up no fault."""
    await plan(client, kind="status", status=500, count=3)

    unknown = await client.patch(LINK, headers={"X-API-TOKEN": "nobody"})
    statuses = [(await client.patch(LINK)).status_code for _ in range(3)]
    remaining = (await client.get("/_simulator/faults")).json()["faults"][0]["count"]

    assert unknown.status_code == 401
    assert statuses == [500, 500, 429]
    assert remaining == 1


async def test_garbage_is_a_200_that_is_no_array_of_integers(client: httpx2.AsyncClient) -> None:
    """Each default body fails to be what the operation promises; given bodies are used as they are."""
    await plan(client, kind="garbage", count=1)
    await plan(client, kind="garbage", bodies=["[true"])

    default = await client.patch(LINK)
    given = await client.patch(LINK)

    assert default.status_code == 200
    assert default.text in {"", "null", "{}", '["1001"]', "[1001.5]", "[1001", "<html>OK</html>"}
    assert given.text == "[true"


@pytest.mark.parametrize(("size", "declared"), [(2, True), (65538, True), (200_000, False)])
async def test_an_oversize_answer_is_valid_and_exactly_as_large_as_ordered(
    client: httpx2.AsyncClient, size: int, *, declared: bool
) -> None:
    """Only the size is wrong with it, and Content-Length may keep silent about that."""
    await plan(client, kind="oversize", size=size, declared=declared)

    answer = await client.patch(LINK)

    assert (answer.status_code, len(answer.content), answer.json()) == (200, size, [])
    assert answer.headers.get("content-length") == (str(size) if declared else None)


async def test_an_echoed_token_is_in_body_and_headers_in_every_form(clock: Clock) -> None:
    """A leaking answer holds the value in plain, URL-encoded, in base64 at its three alignments and JSON-escaped."""
    value = 'to/ken+"with"=all'
    app = create_simulator([SimulatedToken("main", value, "account")], clock=clock)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://upstream") as client:
        await plan(client, kind="echo-token", status=422)

        answer = await client.patch(LINK, headers={"X-API-TOKEN": value})

    encoded = [base64.b64encode(text.encode()).decode() for text in (value, f"1{value}", f"22{value}")]
    forms = [value, quote(value, safe=""), *encoded, json.dumps(value)]
    assert answer.status_code == 422
    assert [line.partition(": ")[2] for line in answer.text.splitlines()] == forms
    assert [answer.headers[f"x-echo-{form}"] for form in ("plain", "url", "base64", "base64-1", "base64-2", "json")] == forms


async def test_a_redirect_points_where_it_was_told(client: httpx2.AsyncClient) -> None:
    """The location may be another host, to see whether a token would follow."""
    await plan(client, kind="redirect", location="https://elsewhere.example/orders", status=307)

    answer = await client.patch(LINK)

    assert (answer.status_code, answer.headers["location"]) == (307, "https://elsewhere.example/orders")


async def test_a_closing_answer_says_so(client: httpx2.AsyncClient) -> None:
    """The work is done and the answer true; only the connection ends."""
    await plan(client, kind="close")

    answer = await client.patch(LINK)

    assert answer.json() == [1001]
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("fault", "works"),
    [
        ({"kind": "reset-before"}, False),
        ({"kind": "reset-after"}, True),
        ({"kind": "garbage-http"}, False),
        ({"kind": "hang", "seconds": 0}, False),
    ],
)
async def test_a_fault_that_needs_a_socket_is_an_error_over_plain_asgi(
    client: httpx2.AsyncClient, fault: dict[str, Any], *, works: bool
) -> None:
    """Without the simulator's own server such a fault fails inside the app, and counts as unanswered."""
    await plan(client, **fault)

    with pytest.raises(NoSocketError, match="takes a server made by server_config"):
        await client.patch(LINK)

    assert await linked(client) == works
    statistics = (await client.get("/_simulator/statistics")).json()["tokens"]["main"]
    assert (statistics["unanswered"], statistics["statuses"]) == (1, {})


async def test_a_fault_that_needs_a_socket_is_a_500_to_a_client_over_plain_asgi(simulator: FastAPI) -> None:
    """A client of another server sees a failure, never a success."""
    transport = httpx2.ASGITransport(app=simulator, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://upstream") as client:
        await plan(client, kind="reset-before")

        answer = await client.patch(LINK, headers={"X-API-TOKEN": "account-token-value-1"})

    assert answer.status_code == 500
