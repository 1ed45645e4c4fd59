"""A page follows a job in a real browser, as the documentation says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.browser.test_page import backend, site, ticket_for
from tests.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = Path(__file__).parents[2] / "docs" / "jobs.md"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(rig: Rig) -> AsyncIterator[tuple[str, str]]:
    """A site, and the key of its backend."""
    async with site() as origin:
        yield origin, await backend(rig, "shop-backend", origin)


async def asked_with(rig: Rig, ticket: str, origin: str, count: int) -> str:
    """A job of so many orders that was asked for with a ticket."""
    body = {"operation": "link-orders", "parameter": "orderIds", "ids": list(range(1001, 1001 + count))}
    headers = {"Authorization": f"Bearer {ticket}", "Origin": origin}
    answer = await rig.client.post(f"{rig.url}/gateway/batches", json=body, headers=headers)
    return str(answer.raise_for_status().json()["id"])


async def test_a_page_follows_a_job_as_the_documentation_says(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """The script in the documentation shows a job's states one after the other, to its end."""
    [script] = re.findall(r"```js\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    ticket = await ticket_for(rig, shop)
    job = await asked_with(rig, ticket, shop[0], 120)
    await page.goto(shop[0])
    used = script.replace("http://127.0.0.1:8080", rig.url)
    follow = f"async ([job, ticket]) => {{ {used}; const seen = []; await follow(job, ticket, (one) => seen.push(one)); return seen; }}"
    seen = await page.evaluate(follow, [job, ticket])

    assert seen[-1]["state"] == "succeeded"
    assert len(seen) >= 2
    assert [one["counts"]["answered"] for one in seen] == sorted(one["counts"]["answered"] for one in seen)


async def test_a_page_goes_on_with_the_id_of_its_last_event(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """The preflight allows it; after the end the answer is empty, so there is nothing more to ask."""
    ticket = await ticket_for(rig, shop)
    job = await asked_with(rig, ticket, shop[0], 1)
    await page.goto(shop[0])
    script = """async ([url, ticket]) => {
      const headers = {Authorization: `Bearer ${ticket}`};
      const text = await (await fetch(url, {headers})).text();
      const last = [...text.matchAll(/^id: (.*)$/gm)].pop()[1];
      return (await fetch(url, {headers: {...headers, "Last-Event-ID": last}})).status;
    }"""

    assert await page.evaluate(script, [f"{rig.url}/gateway/jobs/{job}/events", ticket]) == 204


async def test_an_event_source_of_a_page_gets_nothing(rig: Rig, page: Page, shop: tuple[str, str]) -> None:
    """It can send no credential, and doesn't try again."""
    job = await asked_with(rig, await ticket_for(rig, shop), shop[0], 1)
    await page.goto(shop[0])
    script = """(url) => new Promise((resolve) => {
      const source = new EventSource(url);
      source.onmessage = source.onopen = () => resolve("open");
      source.onerror = () => resolve(source.readyState === EventSource.CLOSED ? "closed" : "tries again");
    })"""

    assert await page.evaluate(script, f"{rig.url}/gateway/jobs/{job}/events") == "closed"
