"""Cookies: outside the console the gateway sets none and heeds none, on any route."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest
from starlette.routing import Mount, Route

from app.callers import NewCaller
from app.domain import Role
from tests.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONSOLE = "/gateway/console"


def requests_to(rig: Rig) -> Iterator[tuple[str, str]]:
    """A method and a path for every route that the application has."""
    for route in rig.app.routes:
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/swagger-ui.css"
        elif isinstance(route, Route) and not route.path.startswith(CONSOLE):
            yield from ((method, re.sub(r"\{[^}]*\}", "none", route.path)) for method in sorted(route.methods or {"GET"}))


def seen(answer: httpx2.Response) -> tuple[int, frozenset[str], str]:
    """What an answer is, but for what differs from one to the next."""
    problem = answer.json()["type"] if answer.headers.get("Content-Type") == "application/problem+json" else ""
    return answer.status_code, frozenset(answer.headers), problem


@pytest.mark.parametrize("role", [None, Role.ADMIN])
async def test_no_route_sets_a_cookie_or_heeds_one(rig: Rig, role: Role | None) -> None:
    """With and without cookies the answer is the same, and nothing is to be kept; a credential in a cookie is none."""
    new = NewCaller(f"cookies-{role}", role=role)
    _, key = await rig.administer(lambda administration: administration.add_caller(new))
    credential = {"Authorization": f"Bearer {key.reveal()}"} if role else {}
    cookies = {"Cookie": f"session=1; Authorization=Bearer {rig.key}; X-API-TOKEN={rig.key}; access_token={rig.key}; Gateway-Token=shop"}

    requests = list(requests_to(rig))
    for method, path in requests:
        plain = await rig.client.request(method, rig.url + path, headers=credential)
        rig.client.cookies.clear()
        with_cookies = await rig.client.request(method, rig.url + path, headers=credential | cookies)

        assert seen(plain) == seen(with_cookies), (method, path)
        assert "set-cookie" not in plain.headers, (method, path)

    assert {("PATCH", "/orders/link"), ("POST", "/gateway/tickets"), ("GET", "/gateway/docs")} <= set(requests)
