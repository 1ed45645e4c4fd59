"""`/gateway/me`: who the caller is, and what it may use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from app.administration import Administration
from app.callers import GrantAsked, NewCaller
from app.domain import Role, TokenKind, TokenValue
from app.opening import open_state
from app.settings import SHIPPED_CATALOGUE
from app.vault import NewToken
from tests.rig import Rig, rigged

pytestmark = pytest.mark.asyncio(loop_scope="module")

END = datetime(2100, 1, 1, tzinfo=UTC)


async def added(rig: Rig, new: NewCaller, expires_at: datetime | None = None) -> str:
    """The key of a new caller."""
    _, key = await rig.administer(lambda administration: administration.add_caller(new, expires_at=expires_at))
    return str(key.reveal())


async def ask(rig: Rig, key: str | None = None) -> httpx2.Response:
    """Ask who the key's caller is."""
    return await rig.client.get(f"{rig.url}/gateway/me", headers={"Authorization": f"Bearer {key}"} if key else {})


async def with_token(rig: Rig, name: str, kind: TokenKind) -> None:
    """A further token."""
    new = NewToken(name, kind, TokenValue(f"a-value-for-{name}-0001"))
    await rig.administer(lambda administration: administration.add_token(new))


async def test_a_caller_is_told_who_it_is(rig: Rig) -> None:
    """Name, role, credential, address, weight, rate, origins, and the tokens it may use, spelled out."""
    new = NewCaller("told", (GrantAsked("shop"),), None, Role.AUDITOR, 3, "50/minute", (), ("https://b", "https://a"))
    key = await added(rig, new, END)

    answer = await ask(rig, key)

    assert answer.status_code == 200
    assert answer.json() == {
        "name": "told",
        "role": "auditor",
        "credential": {"kind": "key", "id": key[4:16], "expires_at": "2100-01-01T00:00:00Z"},
        "address": "127.0.0.1",
        "weight": 3,
        "rate": "50/minute",
        "tokens": [{"name": "shop", "kind": "account", "enabled": True, "default": True, "operations": ["link-orders"]}],
        "origins": ["https://a", "https://b"],
        "only_parameter": None,
        "only_ids": None,
    }


async def test_a_caller_without_anything_is_told_so(rig: Rig) -> None:
    """The gateway's own rate stands where the caller has none; there is no role, no end, no token."""
    found = (await ask(rig, await added(rig, NewCaller("bare")))).json()

    assert (found["role"], found["rate"], found["tokens"], found["origins"]) == (None, "100/second", [], [])
    assert found["credential"]["expires_at"] is None


async def test_operations_are_limited_by_grant_and_kind(tmp_path: Path) -> None:
    """Of a token that can't do an operation, or whose grant doesn't allow it, the operation isn't listed; the default is told apart."""
    catalogue = tmp_path / "flxpoint.yaml"
    catalogue.write_text(SHIPPED_CATALOGUE.read_text(encoding="utf-8").replace("[account, source, channel]", "[account]"), encoding="utf-8")
    grants = (GrantAsked("a-source"), GrantAsked("an-account", ("link-orders",)), GrantAsked("shop", ("another-operation",)))
    async with rigged(tmp_path / "state", catalogue=catalogue) as rig:
        await with_token(rig, "a-source", TokenKind.SOURCE)
        await with_token(rig, "an-account", TokenKind.ACCOUNT)
        await rig.administer(lambda administration: administration.set_token_enabled("an-account", enabled=False))
        tokens = (await ask(rig, await added(rig, NewCaller("limited", grants, "an-account")))).json()["tokens"]

    assert [(one["name"], one["kind"], one["enabled"], one["default"], one["operations"]) for one in tokens] == [
        ("a-source", "source", True, False, []),
        ("an-account", "account", False, True, ["link-orders"]),
        ("shop", "account", True, False, []),
    ]


async def test_nothing_is_said_of_other_tokens(rig: Rig) -> None:
    """A token without a grant doesn't show, nor does one whose grant was taken back, nor one that was removed."""
    await with_token(rig, "secret-project", TokenKind.ACCOUNT)
    await with_token(rig, "short-lived", TokenKind.ACCOUNT)
    key = await added(rig, NewCaller("narrow", (GrantAsked("shop"), GrantAsked("secret-project"), GrantAsked("short-lived"))))
    before = (await ask(rig, key)).json()["tokens"]
    await rig.administer(lambda administration: administration.revoke("narrow", "secret-project"))
    await rig.administer(lambda administration: administration.remove_token("short-lived"))

    answer = await ask(rig, key)

    assert [one["name"] for one in before] == ["secret-project", "shop", "short-lived"]
    assert not any(one["default"] for one in before)
    assert [(one["name"], one["default"]) for one in answer.json()["tokens"]] == [("shop", True)]
    assert "secret-project" not in answer.text


async def test_a_token_without_a_grant_is_as_one_that_isnt_there(rig: Rig) -> None:
    """Whether a token exists that a caller has no right to, no answer tells."""
    await with_token(rig, "hidden", TokenKind.ACCOUNT)
    key = await added(rig, NewCaller("curious", (GrantAsked("shop"),)))

    answers = [
        await rig.client.patch(
            f"{rig.url}/orders/link?orderIds=1",
            headers={"Authorization": f"Bearer {key}", "Gateway-Token": name, "X-Request-ID": "r"},
        )
        for name in ("hidden", "no-such")
    ]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].content == answers[1].content


async def test_a_stranger_is_told_nothing(rig: Rig) -> None:
    """Without a credential there is no answer."""
    answer = await ask(rig)

    assert (answer.status_code, answer.json()["type"]) == (401, "/gateway/problems/credentials-missing")


async def test_a_key_that_ends_is_refused_like_a_wrong_one(rig: Rig) -> None:
    """During a rotation both keys are good; once the old one is over, its answer is that of any wrong key."""
    old = await added(rig, NewCaller("rotating"))
    _, new = await rig.administer(lambda administration: administration.rotate_key("rotating", grace=3_600))
    both = [await ask(rig, key) for key in (old, new.reveal())]
    await rig.administer(lambda administration: administration.rotate_key("rotating"))
    over = await ask(rig, old)

    end = datetime.fromisoformat(both[0].json()["credential"]["expires_at"])
    assert [answer.status_code for answer in both] == [200, 200]
    assert timedelta(minutes=59) < end - datetime.now(UTC) <= timedelta(hours=1)
    assert (over.status_code, over.json()["type"]) == (401, "/gateway/problems/credentials-invalid")


async def test_the_last_use_of_a_key_outlives_the_server(tmp_path: Path) -> None:
    """Whatever a gateway saw of a key since it last wrote that, it writes when it stops."""
    async with rigged(tmp_path) as rig:
        before = datetime.now(UTC)
        await ask(rig, rig.key)
        after = datetime.now(UTC)
    async with open_state(rig.settings) as (engine, keyring):
        row = await Administration(engine, keyring, "test:rig").caller("order-service")

    last = row.keys[0].last_used_at
    assert last is not None
    assert before <= datetime.fromisoformat(last) <= after
