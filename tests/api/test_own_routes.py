"""The gateway's own routes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.errors import PROBLEMS
from tests.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Links(HTMLParser):
    """Collects every address that a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep `href` and `src`."""
        del tag
        self.found += [value for name, value in attrs if name in {"href", "src"} and value]


def links_of(page: str) -> list[str]:
    """Every address that a page refers to."""
    parser = Links()
    parser.feed(page)
    return parser.found


async def test_health_says_that_it_lives_and_takes_calls(rig: Rig) -> None:
    """Both probes answer 200 without a credential."""
    live, ready = [await rig.client.get(f"{rig.url}/gateway/health/{probe}") for probe in ("live", "ready")]

    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


@pytest.mark.parametrize("code", [*PROBLEMS, "upstream-404"])
async def test_every_problem_has_its_page(rig: Rig, code: str) -> None:
    """The address in a problem's `type` is a page with its title and explanation."""
    page = await rig.client.get(f"{rig.url}/gateway/problems/{code}")
    kind = PROBLEMS.get(code, PROBLEMS["upstream-4xx"])

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert kind.title().replace("'", "&#x27;") in page.text
    assert code in page.text
    assert len(re.sub("<[^>]+>", "", page.text)) > 100


async def test_the_list_of_problems_leads_to_every_page(rig: Rig) -> None:
    """No code is missing from the list."""
    page = await rig.client.get(f"{rig.url}/gateway/problems")

    assert set(links_of(page.text)) == {f"/gateway/problems/{code}" for code in PROBLEMS}


@pytest.mark.parametrize("code", ["no-such-code", "upstream-5", "upstream-40x"])
async def test_an_unknown_code_has_no_page(rig: Rig, code: str) -> None:
    """What is no code is not found."""
    page = await rig.client.get(f"{rig.url}/gateway/problems/{code}")

    assert page.status_code == 404


async def test_the_documentation_needs_nothing_from_elsewhere(rig: Rig) -> None:
    """Every asset of the page is served by the gateway itself."""
    page = await rig.client.get(f"{rig.url}/gateway/docs")
    links = links_of(page.text)
    assets = [await rig.client.get(rig.url + link) for link in links]

    assert len(links) == 4
    assert all(link.startswith("/gateway/docs/") for link in links)
    assert [asset.status_code for asset in assets] == [200, 200, 200, 200]


async def test_the_description_is_valid_and_built_from_the_catalogue(rig: Rig) -> None:
    """Our own OpenAPI is valid, and offers the catalogue's operation with its parameters and problems."""
    document = (await rig.client.get(f"{rig.url}/gateway/openapi.json")).json()

    OpenAPIV31SpecValidator(document).validate()
    operation = document["paths"]["/orders/link"]["patch"]
    assert operation["operationId"] == "link-orders"
    names = [one["name"] for one in operation["parameters"]]
    assert names == ["orderIds", "orderItemIds", "channelIds", "Gateway-Token", "Prefer", "Idempotency-Key", "X-Request-ID"]
    assert operation["x-exactly-one-of"] == ["orderIds", "orderItemIds", "channelIds"]
    assert "parameter-conflict" in operation["responses"]["400"]["description"]
    assert "application/problem+json" in operation["responses"]["503"]["content"]
