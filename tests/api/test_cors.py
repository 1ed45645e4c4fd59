"""Calls of pages over HTTP, as a browser makes them: preflights, the headers on every answer, and who is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI

from app.api.cors import HEADERS_OUT, CrossOriginHeaders, add_preflights
from app.callers import GrantAsked, NewCaller
from tests.rig import Rig, rigged

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOP = "https://shop.example"
DESK = "https://desk.example:8443"
EVIL = "https://evil.example"
LINK = "/orders/link"
WANTED = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,prefer"}
OWN_PAGES = ["/gateway/health/live", "/gateway/docs", "/gateway/openapi.json", "/gateway/problems", "/gateway/admin/lanes"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway whose list names the shop."""
    async with rigged(tmp_path_factory.mktemp("state"), cors_origins=(SHOP,)) as running:
        yield running


async def key_of(rig: Rig, name: str, *origins: str) -> str:
    """The key of a new caller with these origins."""
    new = NewCaller(name, (GrantAsked("shop"),), origins=origins)
    _, key = await rig.administer(lambda administration: administration.add_caller(new))
    return str(key.reveal())


async def preflight(rig: Rig, origin: str | None = SHOP, path: str = LINK, **headers: str) -> httpx2.Response:
    """What a browser asks before it calls."""
    given = WANTED | ({"Origin": origin} if origin else {}) | {name.replace("_", "-"): value for name, value in headers.items()}
    return await rig.client.options(rig.url + path, headers=given)


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


def cors_headers(answer: httpx2.Response) -> set[str]:
    """The CORS headers that an answer has."""
    return {name for name in answer.headers if name.startswith("access-control-")}


async def test_a_preflight_of_a_known_origin_is_told_what_the_path_takes(rig: Rig) -> None:
    """It needs no credential, names that path's methods and the headers that the gateway heeds, and may be kept for ten minutes."""
    answer = await preflight(rig)

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert answer.headers["Access-Control-Allow-Methods"] == "PATCH"
    assert set(answer.headers["Access-Control-Allow-Headers"].split(", ")) == {
        "Authorization",
        "X-API-TOKEN",
        "Content-Type",
        "Prefer",
        "Gateway-Token",
        "X-Request-ID",
        "Idempotency-Key",
        "Last-Event-ID",
    }
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert answer.headers["Vary"] == "Origin"
    assert "X-Request-ID" in answer.headers


@pytest.mark.parametrize("origin", [EVIL, "null", "*", "http://shop.example", "https://shop.example:443"])
async def test_a_preflight_from_elsewhere_is_refused_and_counted(rig: Rig, origin: str) -> None:
    """It gets a problem without a single CORS header, and the refusal is on record."""
    answer = await preflight(rig, origin)
    counted = [one for one in await rig.records() if one["name"] == "refusals:counted"]

    assert (answer.status_code, code_of(answer)) == (403, "origin-not-allowed")
    assert cors_headers(answer) == set()
    assert answer.headers["Vary"] == "Origin"
    assert counted[-1]["code"] == "origin-not-allowed"


async def test_a_preflight_with_two_origins_is_refused(rig: Rig) -> None:
    """Two values of `Origin` are none."""
    headers = [("Origin", SHOP), ("Origin", SHOP), *WANTED.items()]
    answer = await rig.client.options(rig.url + LINK, headers=headers)

    assert (answer.status_code, cors_headers(answer)) == (403, set())


async def test_a_preflight_for_a_private_network_gets_no_leave(rig: Rig) -> None:
    """The gateway doesn't say that pages of public networks may reach into its private one."""
    answer = await preflight(rig, Access_Control_Request_Private_Network="true")

    assert "Access-Control-Allow-Private-Network" not in answer.headers


@pytest.mark.parametrize("headers", [{}, {"Origin": SHOP}, {"Access-Control-Request-Method": "PATCH"}], ids=["bare", "origin", "method"])
async def test_options_is_for_preflights_only(rig: Rig, headers: dict[str, str]) -> None:
    """Without both of a preflight's headers it is a method that the path doesn't take."""
    answer = await rig.client.options(rig.url + LINK, headers=headers)

    assert (answer.status_code, code_of(answer), answer.headers["Allow"]) == (405, "method-not-allowed", "PATCH")


@pytest.mark.parametrize("path", [*OWN_PAGES, "/gateway/tickets"])
async def test_what_is_not_for_pages_has_no_cors(rig: Rig, path: str) -> None:
    """Administration, documentation and the tickets, which a backend asks for, say nothing to other origins."""
    answers = [await preflight(rig, path=path), await rig.client.get(rig.url + path, headers={"Origin": SHOP})]

    assert [cors_headers(answer) for answer in answers] == [set(), set()]
    assert answers[0].status_code >= 400


async def test_a_page_reads_the_answer_and_the_gateways_headers(rig: Rig) -> None:
    """An answer to a page names its origin and lets it read the gateway's headers; credentials of the browser's own are never allowed."""
    answer = await rig.link("orderIds=3001", Origin=SHOP)

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) == set(HEADERS_OUT)
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert answer.headers["Vary"] == "Origin"
    [call] = [one for one in await rig.records() if one["name"] == "call:outcome" and one["ids"] == ["3001"]]
    assert call["origin"] == SHOP


async def test_every_answer_of_a_path_for_pages_varies_by_origin(rig: Rig) -> None:
    """A cache that keeps an answer without `Origin` must not give it to a page; no origin gets no CORS headers."""
    answer = await rig.link("")

    assert answer.headers["Vary"] == "Origin"
    assert cors_headers(answer) == set()


async def test_a_page_reads_errors_too(rig: Rig) -> None:
    """Problems of the route, of the credential, of the path, and those that the frame makes, can all be read."""
    page = {"Origin": SHOP}
    answers = [
        await rig.link("", **page),
        await rig.client.patch(rig.url + LINK, headers=page),
        await rig.client.get(rig.url + LINK, headers=page),
        await rig.client.patch(f"{rig.url}/orders/none", headers=page),
        await rig.client.patch(f"{rig.url}{LINK}?{'x' * 9000}", headers=page),
        await rig.client.patch(rig.url + LINK, headers=page | {f"X-{number}": "x" for number in range(101)}),
    ]

    assert [answer.status_code for answer in answers] == [400, 401, 405, 404, 414, 431]
    assert {answer.headers["Access-Control-Allow-Origin"] for answer in answers} == {SHOP}
    assert {answer.headers["Vary"] for answer in answers} == {"Origin"}


async def test_a_page_reads_that_the_gateway_failed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect's 500 has its CORS headers as well."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(rig.house.services.gateway, "handle", fail)
    answer = await rig.link("orderIds=1", Origin=SHOP)

    assert (answer.status_code, code_of(answer)) == (500, "internal-error")
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP


async def test_a_call_is_held_to_its_callers_own_origins(rig: Rig) -> None:
    """An origin that is known for another caller passes the preflight, not the call; the page can read why."""
    key = await key_of(rig, "desk", DESK)
    asked = await preflight(rig, DESK)
    own = await rig.client.patch(rig.url + LINK, headers={"Authorization": f"Bearer {key}", "Origin": DESK})
    other = await rig.client.patch(rig.url + LINK, headers={"Authorization": f"Bearer {key}", "Origin": SHOP})
    from_desk = await rig.link("", Origin=DESK)

    assert asked.status_code == 204
    assert code_of(own) == "parameter-missing"
    assert [(one.status_code, code_of(one)) for one in (other, from_desk)] == [(403, "origin-not-allowed")] * 2
    assert from_desk.headers["Access-Control-Allow-Origin"] == DESK


@pytest.mark.parametrize("origin", [EVIL, "null"])
async def test_a_page_of_an_unknown_origin_is_refused_and_reads_nothing(rig: Rig, origin: str) -> None:
    """A key doesn't help it, nothing is sent, and the refusal is counted under the caller."""
    before = await rig.statistics()
    answer = await rig.link("orderIds=1", Origin=origin)
    counted = [one for one in await rig.records() if one["name"] == "refusals:counted"]

    assert (answer.status_code, code_of(answer)) == (403, "origin-not-allowed")
    assert cors_headers(answer) == set()
    assert (counted[-1]["caller"], counted[-1]["code"]) == ("order-service", "origin-not-allowed")
    assert await rig.statistics() == before


async def test_the_gateways_own_page_may_call(rig: Rig) -> None:
    """The documentation's "try it" works: its origin is the host that the request is for."""
    answer = await rig.link("", Origin=rig.url)

    assert code_of(answer) == "parameter-missing"


async def test_origins_follow_the_callers_while_the_gateway_runs(rig: Rig) -> None:
    """A caller's origins are known when it is added, and no longer once it is removed."""
    origin = "https://new.example"
    before = await preflight(rig, origin)
    await key_of(rig, "new", origin)
    during = await preflight(rig, origin)
    await rig.administer(lambda administration: administration.remove_caller("new"))
    after = await preflight(rig, origin)

    assert [answer.status_code for answer in (before, during, after)] == [403, 204, 403]


class Known:
    """Services that know the shop and nothing else."""

    origins = property(lambda self: self)

    def known(self, origin: str) -> bool:
        """Whether it is the shop's."""
        return origin == SHOP


async def nothing() -> None:
    """Answers nothing."""


@pytest.mark.parametrize(
    ("path", "asked", "methods"),
    [
        ("/gateway/me", "/gateway/me", "GET"),
        ("/gateway/jobs/{job}", "/gateway/jobs/1", "DELETE, GET"),
        ("/gateway/batches", "/gateway/batches", "POST"),
        ("/orders/{order}", "/orders/1", "GET, PUT"),
        ("/gateway/mean", "/gateway/mean", None),
        ("/gateway/admin/callers", "/gateway/admin/callers", None),
    ],
)
async def test_a_path_that_is_added_is_for_pages_by_its_name(path: str, asked: str, methods: str | None) -> None:
    """What concerns calls answers preflights, with all the methods that its routes take; the rest of the gateway's own doesn't."""
    app = FastAPI()
    for method in (methods or "GET").split(", "):
        app.add_api_route(path, nothing, methods=[method])
    add_preflights(app)
    app.add_middleware(CrossOriginHeaders)
    app.state.services = Known()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway") as client:
        answer = await client.options(asked, headers=WANTED | {"Origin": SHOP})

    assert answer.headers.get("Access-Control-Allow-Methods") == methods
    assert answer.headers.get("Access-Control-Allow-Origin") == (SHOP if methods else None)
    assert answer.status_code == (204 if methods else 405)


async def test_every_operation_answers_preflights(rig: Rig) -> None:
    """No path of the catalogue is forgotten."""
    paths = {route.path for route in rig.app.routes if getattr(route, "operation_id", None) and not route.path.startswith("/gateway")}  # type: ignore[attr-defined]
    answers = {path: (await preflight(rig, path=path)).status_code for path in paths}

    assert answers
    assert set(answers.values()) == {204}
