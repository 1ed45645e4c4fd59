"""The gateway's own limits, on callers and on guessing, over every route that there is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import count
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from fastapi import Request
from starlette.routing import BaseRoute, Mount, Route

from app.api.dependencies import CallerLimit
from app.api.failures import MOST_ADDRESSES, FailureLimit
from app.callers import NewCaller
from app.domain import Caller, CredentialKind, Role
from app.errors import CallerRateExceeded
from app.main import create_app
from tests.rig import Rig, rigged, settings_for

PUBLIC = {
    "GET /gateway/openapi.json",
    "GET /gateway/health/live",
    "GET /gateway/health/ready",
    "GET /gateway/problems",
    "GET /gateway/problems/{code}",
    "GET /gateway/docs",
    "GET /gateway/docs/start.js",
    "ANY /gateway/docs/assets/",
    "OPTIONS /orders/link",
    "OPTIONS /gateway/me",
    "OPTIONS /gateway/batches",
    "OPTIONS /gateway/jobs",
    "OPTIONS /gateway/jobs/{job_id}",
    "OPTIONS /gateway/jobs/{job_id}/events",
    "OPTIONS /gateway/jobs/{job_id}/result",
}
"""What needs no credential. A new route stands here, or in the other list."""

LIMITED = {
    "PATCH /orders/link",
    "GET /gateway/me",
    "POST /gateway/tickets",
    "POST /gateway/batches",
    "GET /gateway/jobs",
    "GET /gateway/jobs/{job_id}",
    "DELETE /gateway/jobs/{job_id}",
    "GET /gateway/jobs/{job_id}/events",
    "GET /gateway/jobs/{job_id}/result",
    "GET /gateway/admin/lanes",
    "POST /gateway/admin/lanes/{token}/resume",
    "GET /gateway/admin/tokens",
    "POST /gateway/admin/tokens",
    "GET /gateway/admin/tokens/{name}",
    "PATCH /gateway/admin/tokens/{name}",
    "DELETE /gateway/admin/tokens/{name}",
    "POST /gateway/admin/tokens/{name}/rotate",
    "POST /gateway/admin/tokens/{name}/enable",
    "POST /gateway/admin/tokens/{name}/disable",
    "POST /gateway/admin/tokens/{name}/test",
    "GET /gateway/admin/callers",
    "POST /gateway/admin/callers",
    "GET /gateway/admin/callers/{name}",
    "PATCH /gateway/admin/callers/{name}",
    "DELETE /gateway/admin/callers/{name}",
    "POST /gateway/admin/callers/{name}/rotate-key",
    "POST /gateway/admin/callers/{name}/enable",
    "POST /gateway/admin/callers/{name}/disable",
    "PUT /gateway/admin/callers/{name}/grants/{token}",
    "DELETE /gateway/admin/callers/{name}/grants/{token}",
    "GET /gateway/admin/audit",
    "GET /gateway/admin/audit/{reference:path}",
}
"""What takes credentials, and so is limited by caller, and by address where they are wrong."""

WRONG = f"fgk_{'0' * 12}_{'x' * 43}"
ADDRESSES = (f"2001:db8:0:{number:x}::1" for number in count(1))


def routes_of(routes: Iterable[BaseRoute], under: str = "") -> Iterator[str]:
    """Every route by method and path; what hides its routes counts as one that takes any method."""
    for route in routes:
        if isinstance(route, Mount) and route.routes:
            yield from routes_of(route.routes, under + route.path)
        elif isinstance(route, Route) and route.methods:
            yield from (f"{method} {under}{route.path}" for method in route.methods - {"HEAD"})
        else:
            yield f"ANY {under}{getattr(route, 'path', '?')}/"


@dataclass(frozen=True)
class Asking:
    """Requests for one route from one address, and of a page where `origin` names one."""

    rig: Rig
    route: str
    address: str
    origin: str | None = None

    async def __call__(self, key: str) -> httpx2.Response:
        """Ask with a key."""
        method, path = re.sub("{[^}]+}", "none", self.route).split(" ")
        headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": self.address} | ({"Origin": self.origin} if self.origin else {})
        return await self.rig.client.request(method, self.rig.url + path, headers=headers)


def code_of(answer: httpx2.Response) -> str:
    """The problem's code."""
    return str(answer.json()["type"]).rpartition("/")[2]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway behind a trusted proxy, so that each test can come from an address of its own."""
    async with rigged(tmp_path_factory.mktemp("state"), trusted_proxies=(ip_network("127.0.0.1/32"),)) as running:
        yield running


async def key_with(rig: Rig, name: str, rate: str) -> str:
    """The key of a new admin with that rate."""
    new = NewCaller(name, role=Role.ADMIN, rate=rate)
    _, key = await rig.administer(lambda administration: administration.add_caller(new))
    return str(key.reveal())


def test_every_route_is_known_here(tmp_path: Path) -> None:
    """A route that is in neither list might be without a limit."""
    app = create_app(settings_for(tmp_path))

    assert set(routes_of(app.routes)) == PUBLIC | LIMITED


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("origin", [None, "https://evil.example"], ids=["no page", "a strange page"])
@pytest.mark.parametrize("route", sorted(LIMITED))
async def test_the_limit_on_a_caller_bites(rig: Rig, route: str, origin: str | None) -> None:
    """On every route that takes credentials a caller's requests count, whatever becomes of them; the one too many is refused.

    Also those that are refused for the page that they come from.
    """
    asking = Asking(rig, route, next(ADDRESSES), origin)
    key = await key_with(rig, re.sub("[^a-z]+", "-", f"{'page' if origin else 'hasty'}-{route}".lower()), "2/hour")

    answers = [await asking(key) for _ in range(3)]

    assert not {401, 429, 500} & {answer.status_code for answer in answers[:2]}
    assert (answers[2].status_code, code_of(answers[2])) == (429, "caller-rate-exceeded")
    assert 0 < int(answers[2].headers["Retry-After"]) <= 3_600


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("route", sorted(LIMITED))
async def test_the_limit_on_guessing_bites(rig: Rig, route: str) -> None:
    """On every route that takes credentials ten wrong ones a minute are told so; then the address has to wait."""
    asking = Asking(rig, route, next(ADDRESSES))

    answers = [await asking(WRONG) for _ in range(12)]

    assert [code_of(answer) for answer in answers] == ["credentials-invalid"] * 10 + ["caller-rate-exceeded"] * 2
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert answers[-1].json()["detail"] == "too many credentials that are not valid came from this address"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_valid_credential_is_let_in_whatever_others_did(rig: Rig) -> None:
    """Behind an address from which others guess, a good key works all the time; and it doesn't help the others."""
    asking = Asking(rig, "GET /gateway/me", next(ADDRESSES))

    wrong, good = [], []
    for _ in range(15):
        wrong.append((await asking(WRONG)).status_code)
        good.append((await asking(rig.key)).status_code)

    assert wrong == [401] * 10 + [429] * 5
    assert good == [200] * 15


@pytest.mark.asyncio(loop_scope="module")
async def test_guesses_count_together_on_all_routes(rig: Rig) -> None:
    """Who spreads guesses over routes, over sorts of credential, or over a site's IPv6 addresses has no more of them."""
    asking = Asking(rig, "GET /gateway/me", "2001:db8:ffff::1")
    statuses = [
        (await (replace(asking, route=route, address=f"2001:db8:ffff::{number}"))(key)).status_code
        for number in range(1, 4)
        for route in sorted(LIMITED)[:2]
        for key in (WRONG, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.")
    ]

    assert statuses == [401] * 10 + [429] * 2
    assert (await replace(asking, address="2001:db8:fffe::1")(WRONG)).status_code == 401


@pytest.mark.asyncio(loop_scope="module")
async def test_a_request_without_credentials_is_no_guess(rig: Rig) -> None:
    """Whoever forgot the credential is told how to give one, as often as it asks."""
    headers = {"X-Forwarded-For": next(ADDRESSES)}

    codes = {code_of(await rig.client.get(f"{rig.url}/gateway/me", headers=headers)) for _ in range(12)}

    assert codes == {"credentials-missing"}


@pytest.mark.asyncio(loop_scope="module")
async def test_refused_guesses_are_on_record(rig: Rig) -> None:
    """The sums of refusals tell how many guesses there were, told so or not, by address."""
    asking = Asking(rig, "GET /gateway/me", "192.0.2.77")
    await rig.records()  # writes the sums of this second, which other tests' many addresses may have filled
    for _ in range(12):
        await asking(WRONG)

    found: dict[str, int] = {}
    for record in await rig.records():
        if record.get("address") == "192.0.2.77":
            found[record["code"]] = found.get(record["code"], 0) + record["count"]
    assert found == {"credentials-invalid": 10, "caller-rate-exceeded": 2}


@pytest.mark.parametrize("path", ["health/live", "health/ready", "problems", "problems/conflict", "docs", "openapi.json"])
@pytest.mark.asyncio(loop_scope="module")
async def test_public_routes_need_nothing(rig: Rig, path: str) -> None:
    """Probes and pages answer without a credential, and whatever was guessed from the same address."""
    asking = Asking(rig, f"GET /gateway/{path}", "192.0.2.78")

    assert {(await asking(WRONG)).status_code for _ in range(12)} == {200}


def request_of(caller: Caller | None = None, address: str = "192.0.2.1") -> Request:
    """A request as far as the limits look at it."""
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": (address, 0), "state": {"caller": caller}}
    return Request(scope)


async def passed(limit: CallerLimit, caller: Caller, most: int = 100) -> int:
    """How many requests of a caller are taken until one is refused."""
    for number in range(most):
        try:
            await limit.hit(request_of(caller))
        except CallerRateExceeded:
            return number
    return most


def with_ticket(number: int, rate: str | None = None) -> Caller:
    """A caller's page, with one of its tickets."""
    return Caller("c1", "pages", f"ticket:{number}", credential=CredentialKind.TICKET, rate=rate)


@pytest.mark.parametrize(("rate", "tenth"), [("40/hour", 4), ("49 per 2 hours", 4), ("9/day", 1), ("1/hour", 1)])
async def test_a_ticket_has_a_tenth_of_its_callers_rate(rate: str, tenth: int) -> None:
    """One visitor can't shut out the backend and the other visitors; however low the rate is, a ticket may call."""
    limit = CallerLimit("100/second")

    assert await passed(limit, with_ticket(1, rate)) == tenth


async def test_what_a_ticket_had_too_much_costs_its_caller_nothing() -> None:
    """A visitor who goes on beyond the ticket's limit leaves the rest of the rate to others: the key, and other tickets."""
    limit = CallerLimit("40/hour")
    for _ in range(100):
        await passed(limit, with_ticket(1))

    assert await passed(limit, with_ticket(2)) == 4
    assert await passed(limit, Caller("c1", "pages", "key-1")) == 32


async def test_a_refused_ticket_is_told_whose_limit_it_is() -> None:
    """And when to come again."""
    limit = CallerLimit("10/hour")
    await limit.hit(request_of(with_ticket(1)))

    with pytest.raises(CallerRateExceeded) as refused:
        await limit.hit(request_of(with_ticket(1)))

    assert refused.value.detail == "the gateway takes 1 per 1 hour from this ticket"
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= 3_600


async def test_a_callers_credentials_count_together() -> None:
    """A caller has one rate, whichever kinds of credential it uses."""
    limit = CallerLimit("3/hour")
    for kind in CredentialKind:
        await limit.hit(request_of(Caller("c1", "order-service", f"id-of-{kind}", credential=kind)))

    with pytest.raises(CallerRateExceeded):
        await limit.hit(request_of(Caller("c1", "order-service", "another")))

    await limit.hit(request_of(Caller("c2", "other", "other")))


async def test_guesses_from_everywhere_are_bounded() -> None:
    """Beyond 4,000 addresses a minute the further ones are counted as one, so that strangers can't fill the memory."""
    limit = FailureLimit()
    addresses = [f"2001:db8:{number:x}::1" for number in range(MOST_ADDRESSES)]
    for address in addresses:
        await limit.hit(request_of(address=address))
    for number in range(10):
        await limit.hit(request_of(address=f"192.0.2.{number}"))

    with pytest.raises(CallerRateExceeded):
        await limit.hit(request_of(address="192.0.2.99"))

    await limit.hit(request_of(address=addresses[0]))


@pytest.mark.asyncio(loop_scope="module")
async def test_no_variable_and_no_file_switches_a_limit_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What slowapi would take from the environment and from `.env` in the working folder changes nothing."""
    monkeypatch.setenv("RATELIMIT_ENABLED", "false")
    monkeypatch.setenv("RATELIMIT_STRATEGY", "none")
    (tmp_path / ".env").write_text("RATELIMIT_ENABLED=false\nRATELIMIT_SWALLOW_ERRORS=true\n", encoding="ascii")
    monkeypatch.chdir(tmp_path)
    async with rigged(tmp_path / "state", trusted_proxies=(ip_network("127.0.0.1/32"),)) as rig:
        asking = Asking(rig, "GET /gateway/me", next(ADDRESSES))
        guesses = [(await asking(WRONG)).status_code for _ in range(11)]
        key = await key_with(rig, "hasty", "2/hour")
        calls = [(await asking(key)).status_code for _ in range(3)]

    assert guesses == [401] * 10 + [429]
    assert calls == [200, 200, 429]
