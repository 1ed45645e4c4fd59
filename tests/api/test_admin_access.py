"""Who may use the operators' routes: a test over every one of them, whichever there are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from app.api.admin.access import ADMIN
from app.callers import GrantAsked, NewCaller
from app.domain import Role
from app.main import create_app
from tests.rig import Rig, rigged, settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

JWT = "Bearer eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJzaG9wIn0.c2lnbmF0dXJl"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway behind a proxy."""
    async with rigged(tmp_path_factory.mktemp("state"), trusted_proxies="127.0.0.1/32") as running:
        yield running


def routes() -> list[tuple[str, str]]:
    """Every operator's route, by method and path; nothing is opened for that."""
    described: dict[str, dict[str, Any]] = create_app(settings_for(Path("nowhere"))).openapi()["paths"]
    return [(method.upper(), path) for path, methods in described.items() if path.startswith(ADMIN) for method in methods]


ROUTES = routes()
CHANGING = [route for route in ROUTES if route[0] != "GET"]
READING = [route for route in ROUTES if route[0] == "GET"]


async def key_of(rig: Rig, role: Role | None) -> str:
    """The key of a caller with this role, which may use the one token."""
    name = f"access-{role or 'none'}"
    if any(row.name == name for row in await rig.administer(lambda administration: administration.callers())):
        _, key = await rig.administer(lambda administration: administration.rotate_key(name))
    else:
        new = NewCaller(name, (GrantAsked("shop"),), role=role)
        _, key = await rig.administer(lambda administration: administration.add_caller(new))
    return str(key.reveal())


async def ask(rig: Rig, method: str, path: str, name: str = "shop", **headers: str) -> httpx2.Response:
    """A request for what has this name."""
    return await rig.client.request(method, rig.url + re.sub(r"\{[a-z]+\}", name, path), headers=headers)


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


def without_id(answer: httpx2.Response) -> tuple[int, dict[str, Any]]:
    """An answer, but for what differs from request to request."""
    return answer.status_code, {name: member for name, member in answer.json().items() if name != "instance"}


async def test_there_are_routes() -> None:
    """The tests below look at some."""
    assert len(READING) >= 3
    assert len(CHANGING) >= 7


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_stranger_is_refused(rig: Rig, method: str, path: str) -> None:
    """Without a credential, and with a JWT or ticket that proves nothing, there is nothing to see."""
    elsewhere = {"X-Forwarded-For": f"192.0.2.{ROUTES.index((method, path)) + 1}"}  # an address may guess ten times a minute only
    missing, forged = await ask(rig, method, path, **elsewhere), await ask(rig, method, path, Authorization=JWT, **elsewhere)

    assert (missing.status_code, code_of(missing)) == (401, "credentials-missing")
    assert (forged.status_code, code_of(forged)) == (401, "credentials-invalid")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_caller_without_a_role_is_refused_whatever_is_there(rig: Rig, method: str, path: str) -> None:
    """A caller can't find out by it which tokens and callers there are: the refusal is the same."""
    key = await key_of(rig, None)
    there, not_there = [await ask(rig, method, path, name, Authorization=f"Bearer {key}") for name in ("shop", "none")]

    assert (there.status_code, code_of(there)) == (403, "role-required")
    assert without_id(there) == without_id(not_there)


@pytest.mark.parametrize(("method", "path"), CHANGING)
async def test_an_auditor_changes_nothing(rig: Rig, method: str, path: str) -> None:
    """The refusal names the role that would do, and is the same whatever is there."""
    key = await key_of(rig, Role.AUDITOR)
    there, not_there = [await ask(rig, method, path, name, Authorization=f"Bearer {key}") for name in ("shop", "none")]

    assert (there.status_code, code_of(there), there.json()["roles"]) == (403, "role-required", ["admin"])
    assert without_id(there) == without_id(not_there)
    assert (await rig.administer(lambda administration: administration.token("shop"))).token.enabled


@pytest.mark.parametrize("role", [Role.ADMIN, Role.AUDITOR])
@pytest.mark.parametrize(("method", "path"), READING)
async def test_an_auditor_reads_what_an_admin_reads(rig: Rig, method: str, path: str, role: Role) -> None:
    """What is there, and that something isn't."""
    key = await key_of(rig, role)
    there, not_there = [await ask(rig, method, path, name, Authorization=f"Bearer {key}") for name in (f"access-{role}", "none")]

    if "{" in path:
        assert (not_there.status_code, code_of(not_there)) == (404, "not-found")
    else:
        assert there.status_code == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_says_what_it_needs(rig: Rig, method: str, path: str) -> None:
    """Each is described with its credentials, and with the problem of a role that is missing."""
    described = rig.app.openapi()["paths"][path][method.lower()]

    assert described["security"] == [{"gatewayKey": []}, {"gatewayKeyAsToken": []}]
    assert "`role-required`" in described["responses"]["4XX"]["description"]
    assert described["summary"]
    assert described["description"]
