"""JWTs of the company's identity provider, all the way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import httpx2
import pytest_asyncio
from starlette.responses import Response

from app.callers import GrantAsked, NewCaller
from app.domain import Role
from app.errors import CredentialsInvalid
from tests.callers.standin import AUDIENCE, StandIn, forged, jwk_of, private_key, standing_in
from tests.rig import TOKEN, Rig, rigged, until

FRONTEND = NewCaller("shop-frontend", (GrantAsked(TOKEN.name),), role=Role.AUDITOR, claims={"azp": "shop-frontend"})


@pytest_asyncio.fixture
async def standin() -> AsyncIterator[StandIn]:
    """A provider."""
    async with standing_in() as standin:
        yield standin


@pytest_asyncio.fixture
async def rig(tmp_path: Path, standin: StandIn) -> AsyncIterator[Rig]:
    """A gateway that trusts the provider."""
    async with rigged(tmp_path, oidc_issuer=standin.issuer, oidc_audience=AUDIENCE) as rig:
        yield rig


def token(standin: StandIn, **changed: object) -> str:
    """A JWT that is good now."""
    now = int(time.time())
    return standin.token(**({"iat": now, "exp": now + 300} | changed))  # type: ignore[arg-type]


async def link(rig: Rig, credential: str, ids: str = "1001") -> httpx2.Response:
    """Link orders with a credential."""
    return await rig.link(f"orderIds={ids}", Authorization=f"Bearer {credential}")


async def test_a_jwt_links_an_order_and_stands_on_record(rig: Rig, standin: StandIn) -> None:
    """The call is the caller's, by its JWT's subject, and neither the record nor the answer holds the JWT."""
    await rig.administer(lambda administration: administration.add_caller(FRONTEND))
    credential = token(standin)
    answer = await link(rig, credential)
    records = await rig.records()

    assert (answer.status_code, answer.json()) == (200, [1001])
    (intent,) = [record for record in records if record["name"] == "call:intent"]
    assert (intent["caller"], intent["credential_id"]) == ("shop-frontend", "jwt:user-1")
    assert not [part for part in credential.split(".") if part in f"{records} {answer.text} {answer.headers}"]


async def test_keys_go_on_beside_jwts(rig: Rig) -> None:
    """A gateway key is as good as before."""
    assert (await rig.link("orderIds=1001")).status_code == 200


async def test_a_role_comes_with_the_caller(rig: Rig, standin: StandIn) -> None:
    """What the caller may do with the gateway itself, its JWTs may."""
    await rig.administer(lambda administration: administration.add_caller(FRONTEND))

    answer = await rig.client.get(f"{rig.url}/gateway/admin/lanes", headers={"Authorization": f"Bearer {token(standin)}"})

    assert answer.status_code == 200


async def test_a_jwts_ticket_ends_with_it_and_with_the_callers_claims(rig: Rig, standin: StandIn) -> None:
    """It is good no longer than the JWT that it was asked with, nor once the caller declares other claims."""
    new = replace(FRONTEND, origins=("https://shop.example",))
    await rig.administer(lambda administration: administration.add_caller(new))
    end = int(time.time()) + 100
    headers = {"Authorization": f"Bearer {token(standin, exp=end)}"}
    given = (await rig.client.post(f"{rig.url}/gateway/tickets", json={"origin": "https://shop.example"}, headers=headers)).json()
    page = {"Authorization": f"Bearer {given['ticket']}", "Origin": "https://shop.example"}
    before = await rig.link("orderIds=1001", **page)
    narrower = replace(new, claims={"azp": "shop-frontend", "role": "linker"})
    await rig.administer(lambda administration: administration.change_caller(narrower))
    after = await rig.link("orderIds=1001", **page)

    assert datetime.fromisoformat(given["expires_at"]).timestamp() == end
    assert (before.status_code, after.status_code) == (200, 401)


async def test_a_removed_callers_jwt_ends_at_once(rig: Rig, standin: StandIn) -> None:
    """The provider still vouches for it; the gateway doesn't."""
    await rig.administer(lambda administration: administration.add_caller(FRONTEND))
    credential = token(standin)
    before = await link(rig, credential, "0")
    await rig.administer(lambda administration: administration.remove_caller("shop-frontend"))
    after = await link(rig, credential)

    assert before.json()["type"] == "/gateway/problems/parameter-invalid"
    assert (after.status_code, after.json()["type"]) == (401, "/gateway/problems/credentials-invalid")


async def test_every_refusal_looks_the_same(rig: Rig, standin: StandIn) -> None:
    """Forged, expired, for others, of nobody: the answers differ in nothing but their IDs."""
    credentials = [
        forged({"alg": "none", "typ": "JWT"}, standin.claims()),
        token(standin, by=private_key("RS256", 9)),
        token(standin, kid="unknown"),
        token(standin, exp=1),
        token(standin, aud="others"),
        token(standin, azp="nobody"),
        "eyJ" + "A" * 9_000 + ".e.e",
    ]
    answers = [await link(rig, credential) for credential in credentials]
    shown = [answer.json() | {"instance": ""} for answer in answers]

    assert {answer.status_code for answer in answers} == {CredentialsInvalid.status}
    assert all(one == shown[0] for one in shown)
    assert shown[0]["type"] == "/gateway/problems/credentials-invalid"
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}


async def test_a_gateway_starts_and_serves_keys_while_the_provider_is_out(tmp_path: Path, standin: StandIn) -> None:
    """Keys work; JWTs get 503 and when to try again, and work by themselves once the provider is back."""
    standin.fail(lambda: Response(status_code=503))
    async with rigged(tmp_path, oidc_issuer=standin.issuer, oidc_audience=AUDIENCE) as rig:
        await rig.administer(lambda administration: administration.add_caller(FRONTEND))
        by_key = await rig.link("orderIds=1001")
        by_jwt = await link(rig, token(standin))
        standin.fail(None)

        async def verified() -> bool:
            return (await link(rig, token(standin), "0")).status_code == 400

        await until(verified)

    assert by_key.status_code == 200
    assert (by_jwt.status_code, by_jwt.json()["type"]) == (503, "/gateway/problems/token-unavailable")
    assert int(by_jwt.headers["retry-after"]) <= 60


async def test_a_rollover_is_noticed_by_a_running_gateway(rig: Rig, standin: StandIn) -> None:
    """The new key's first JWT links an order."""
    await rig.administer(lambda administration: administration.add_caller(FRONTEND))
    new = private_key("RS256", 1)
    standin.publish(*standin.jwks, jwk_of(new, kid="two"))

    assert (await link(rig, token(standin, kid="two", by=new))).status_code == 200


async def test_without_a_provider_no_jwt_is_taken(tmp_path: Path, standin: StandIn) -> None:
    """A gateway that wasn't told whom to trust trusts nobody."""
    async with rigged(tmp_path) as rig:
        await rig.administer(lambda administration: administration.add_caller(FRONTEND))
        answer = await link(rig, token(standin))

    assert answer.status_code == 401
    assert not standin.asked


async def test_a_jwt_that_ends_in_milliseconds_is_refused_not_a_defect(rig: Rig, standin: StandIn) -> None:
    """A time that no date can show is 401 on every route, also where the answer would show it."""
    await rig.administer(lambda administration: administration.add_caller(FRONTEND))
    headers = [{"Authorization": f"Bearer {token(standin, exp=end)}"} for end in (1_900_000_000_000, 10**18)]

    answers = [await rig.client.get(f"{rig.url}/gateway/me", headers=one) for one in headers]

    assert [answer.status_code for answer in answers] == [401, 401]
