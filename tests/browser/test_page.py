"""Pages that call the gateway themselves, in a real browser: what they can do with a ticket, and what the browser keeps from others."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from app.callers import GrantAsked, NewCaller
from app.cli.serving import free_port, gateway_config, running
from tests.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

README = Path(__file__).parents[2] / "README.md"
FETCH = """async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return {status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text()};
  } catch (error) {
    return {error: String(error)};
  }
}"""
KEPT_FROM_THE_PAGE = {"error": "TypeError: Failed to fetch"}


async def empty(_: Request) -> HTMLResponse:
    """A page with nothing on it."""
    return HTMLResponse("<!doctype html><title>A page</title>")


async def sandboxed(_: Request) -> HTMLResponse:
    """The same in a sandbox, where its origin is `null`."""
    return HTMLResponse("<!doctype html><title>A page</title>", headers={"Content-Security-Policy": "sandbox allow-scripts"})


@asynccontextmanager
async def site() -> AsyncIterator[str]:
    """A site of its own origin, on its own port; gives the origin."""
    app = Starlette(routes=[Route("/", empty), Route("/sandboxed", sandboxed)])
    async with running(gateway_config(app, host="127.0.0.1", port=0, grace=0), free_port()) as origin:
        yield origin


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(rig: Rig) -> AsyncIterator[tuple[str, str]]:
    """The shop's site, and the key of its backend."""
    async with site() as origin:
        yield origin, await backend(rig, "shop-backend", origin)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def desk(rig: Rig) -> AsyncIterator[tuple[str, str]]:
    """Another caller's site, and the key of its backend."""
    async with site() as origin:
        yield origin, await backend(rig, "desk-backend", origin)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger() -> AsyncIterator[str]:
    """A site that no caller knows."""
    async with site() as origin:
        yield origin


async def backend(rig: Rig, name: str, origin: str) -> str:
    """The key of a new caller with pages of this origin."""
    new = NewCaller(name, (GrantAsked("shop"),), origins=(origin,))
    _, key = await rig.administer(lambda administration: administration.add_caller(new))
    return str(key.reveal())


async def ticket_for(rig: Rig, site_and_key: tuple[str, str], **body: Any) -> str:
    """A ticket, as the site's backend gets it for its page."""
    origin, key = site_and_key
    answer = await rig.client.post(f"{rig.url}/gateway/tickets", json={"origin": origin} | body, headers={"Authorization": f"Bearer {key}"})
    return str(answer.json()["ticket"])


async def fetched(page: Page, rig: Rig, credential: str, query: str = "", **options: Any) -> dict[str, Any]:
    """What the page's script sees of `PATCH /orders/link`."""
    headers = {"Authorization": f"Bearer {credential}", "Prefer": "wait=20"}
    given = {"method": "PATCH", "headers": headers} | options
    seen: dict[str, Any] = await page.evaluate(FETCH, [f"{rig.url}/orders/link?{query}", given])
    return seen


def code_of(seen: dict[str, Any]) -> tuple[int, str]:
    """The problem that the page reads."""
    return seen["status"], json.loads(seen["body"])["type"].rpartition("/")[2]


async def test_a_page_links_orders_with_its_ticket(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """Through its preflight and back: the page has the answer and reads the gateway's headers, and no others."""
    await page.goto(shop[0])
    seen = await fetched(page, rig, await ticket_for(rig, shop), "orderIds=1011,1012")
    [record] = [one for one in await rig.records() if one["name"] == "call:outcome" and one["ids"] == ["1011", "1012"]]

    assert (seen["status"], json.loads(seen["body"])) == (200, [1011, 1012])
    assert {"x-request-id", "server-timing", "gateway-token", "gateway-attempts", "ratelimit", "ratelimit-policy"} <= seen["headers"].keys()
    assert seen["headers"]["preference-applied"] == "wait=20"
    assert "referrer-policy" not in seen["headers"]
    assert (record["caller"], record["origin"], record["request_id"]) == ("shop-backend", shop[0], seen["headers"]["x-request-id"])


async def test_the_example_in_the_documentation_works(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """README's request for a ticket and its page's script do what they say."""
    readme = README.read_text(encoding="utf-8")
    [body], [script] = re.findall(r"-d '(\{.*\})' http", readme), re.findall(r"```js\n(.*?)```", readme, re.DOTALL)
    ticket = await ticket_for(rig, shop, **(json.loads(body) | {"origin": shop[0]}))
    await page.goto(shop[0])
    used = script.replace("http://127.0.0.1:8080", rig.url)
    seen = await page.evaluate(f"async (ticket) => {{ {used}; return [answer.status, await answer.json()]; }}", ticket)

    assert seen == [200, [1001, 1002]]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", (400, "parameter-missing")),
        ("orderIds=1003", (403, "ticket-ids-not-allowed")),
    ],
    ids=["rule", "ids"],
)
async def test_a_page_reads_what_is_wrong(rig: Rig, page: Page, shop: tuple[str, str], query: str, problem: tuple[int, str]) -> None:
    """Problems come through CORS like any answer."""
    await page.goto(shop[0])
    seen = await fetched(page, rig, await ticket_for(rig, shop, ids=[1001]), query)

    assert code_of(seen) == problem


async def test_a_page_reads_what_the_frame_refuses(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """What is refused before any route is asked can be read as well."""
    await page.goto(shop[0])
    seen = await fetched(page, rig, "x" * 66_000)

    assert code_of(seen) == (431, "headers-too-large")


async def test_a_page_reads_that_its_ticket_is_over(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """A 401 tells it to ask its backend for another one."""
    ticket = await ticket_for(rig, shop)
    await page.goto(shop[0])
    seen = await fetched(page, rig, ticket[:-86] + "A" * 86)

    assert code_of(seen) == (401, "credentials-invalid")


async def test_a_ticket_is_no_good_on_another_callers_page(rig: Rig, page: Page, shop: tuple[str, str], desk: tuple[str, str]) -> None:
    """Its origin is known, so it reads why; nothing is sent."""
    before = await rig.statistics()
    await page.goto(desk[0])
    seen = await fetched(page, rig, await ticket_for(rig, shop), "orderIds=1004")

    assert code_of(seen) == (403, "origin-not-allowed")
    assert await rig.statistics() == before


@pytest.mark.parametrize("path", ["/", "/sandboxed"])
async def test_a_strangers_page_gets_nothing_through(rig: Rig, page: Page, shop: tuple[str, str], stranger: str, path: str) -> None:
    """Neither with a stolen ticket nor with a stolen key: the browser keeps the call back, since the preflight was refused."""
    before = await rig.statistics()
    await page.goto(stranger + path)
    seen = [await fetched(page, rig, credential, "orderIds=1005") for credential in (await ticket_for(rig, shop), shop[1], rig.key)]

    assert seen == [KEPT_FROM_THE_PAGE] * 3
    assert await rig.statistics() == before


async def test_a_sandboxed_page_of_the_right_site_gets_nothing_through(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """Its origin is `null`, as any sandboxed page's."""
    await page.goto(f"{shop[0]}/sandboxed")
    seen = await fetched(page, rig, await ticket_for(rig, shop))

    assert seen == KEPT_FROM_THE_PAGE


async def test_a_key_is_no_good_on_another_callers_page(rig: Rig, page: Page, shop: tuple[str, str], desk: tuple[str, str]) -> None:
    """A key that leaks to a page of another origin doesn't work there."""
    await page.goto(desk[0])
    seen = await fetched(page, rig, shop[1], "orderIds=1006")

    assert code_of(seen) == (403, "origin-not-allowed")


async def test_a_page_may_not_send_cookies(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """The browser's own credentials are never allowed, so it keeps such a call back."""
    await page.goto(shop[0])
    seen = await fetched(page, rig, await ticket_for(rig, shop), credentials="include")

    assert seen == KEPT_FROM_THE_PAGE


async def test_a_page_can_not_ask_for_tickets(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """They are for backends: the path answers no preflight."""
    await page.goto(shop[0])
    options = {"method": "POST", "headers": {"Authorization": f"Bearer {shop[1]}", "Content-Type": "application/json"}, "body": "{}"}
    seen = await page.evaluate(FETCH, [f"{rig.url}/gateway/tickets", options])

    assert seen == KEPT_FROM_THE_PAGE


async def test_a_preflight_is_asked_once(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """The browser keeps its answer, and later calls go out at once."""
    methods: list[str] = []
    session = await page.context.new_cdp_session(page)
    session.on("Network.requestWillBeSent", lambda event: methods.append(event["request"]["method"]))
    await session.send("Network.enable")
    await page.goto(shop[0])
    ticket = await ticket_for(rig, shop)
    seen = [await fetched(page, rig, ticket) for _ in range(3)]

    assert [code_of(one) for one in seen] == [(400, "parameter-missing")] * 3
    assert (methods.count("OPTIONS"), methods.count("PATCH")) == (1, 3)


async def test_the_documentation_may_be_tried_with_a_key(rig: Rig, page: Page) -> None:
    """The gateway's own page calls the gateway, whatever origins the caller has."""
    await page.goto(f"{rig.url}/gateway/docs")
    seen = await fetched(page, rig, rig.key)

    assert code_of(seen) == (400, "parameter-missing")
