from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from starlette.responses import JSONResponse, PlainTextResponse, Response
from structlog.testing import capture_logs

from app.callers.provider import ProviderKeys
from app.domain import Document
from app.errors import TokenUnavailable
from app.upstream import Documents, open_documents
from tests.rig import until

from .standin import DISCOVERY, KEYS, StandIn, jwk_of, private_key, redirect, standing_in

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONE = jwk_of(private_key("RS256"), kid="one")
TWO = jwk_of(private_key("RS256", 1), kid="two")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The seconds."""
        return self.now


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running() -> AsyncIterator[StandIn]:
    """One provider for all tests here."""
    async with standing_in() as standin:
        yield standin


@pytest_asyncio.fixture(loop_scope="module")
async def standin(running: StandIn) -> AsyncIterator[StandIn]:
    """The provider, which publishes one key."""
    running.reset(ONE)
    yield running
    running.held.set()


@pytest_asyncio.fixture(loop_scope="module")
async def documents() -> AsyncIterator[Documents]:
    """A client that gives up soon."""
    documents = open_documents(whole=0.5)
    yield documents
    await documents.aclose()


@pytest.fixture
def clock() -> Clock:
    """The clock of the keys."""
    return Clock()


@pytest.fixture
def keys(standin: StandIn, documents: Documents, clock: Clock) -> ProviderKeys:
    """The provider's keys, of which none was fetched yet."""
    return ProviderKeys(standin.issuer, documents, clock)


async def has(keys: ProviderKeys, kid: str) -> bool:
    """Whether a key is known, or becomes so by being asked for."""
    return (await keys.having(kid)).find(kid, "RS256") is not None


async def test_keys_are_discovered_when_they_are_needed(standin: StandIn, keys: ProviderKeys) -> None:
    """The first JWT has the keys fetched; the next doesn't."""
    assert keys.current is None
    assert await has(keys, "one")
    assert await has(keys, "one")
    assert standin.asked == {DISCOVERY: 1, KEYS: 1}


async def test_keys_are_fetched_in_the_background(standin: StandIn, keys: ProviderKeys) -> None:
    """They are there before any JWT is."""
    async with keys.kept_fresh():

        async def known() -> bool:
            return keys.current is not None

        await until(known)
        asked = dict(standin.asked)
        found = await has(keys, "one")

    assert found
    assert asked == standin.asked == {DISCOVERY: 1, KEYS: 1}


@pytest.mark.parametrize("slash", ["", "/"])
async def test_an_issuers_last_slash_is_not_doubled(standin: StandIn, documents: Documents, slash: str) -> None:
    """The document lies at the same place for an issuer with and without it, and must name it with or without."""
    keys = ProviderKeys(standin.issuer + slash, documents)
    standin.discovery = {"issuer": standin.issuer + slash}

    assert await has(keys, "one")


# --- rollover


async def test_a_new_key_is_fetched_when_it_is_first_seen(standin: StandIn, keys: ProviderKeys) -> None:
    """A rollover takes no restart and no wait."""
    await keys.refresh()
    standin.publish(ONE, TWO)

    assert await has(keys, "two")
    assert await has(keys, "one")


async def test_unknown_keys_are_asked_for_once_a_minute(standin: StandIn, keys: ProviderKeys, clock: Clock) -> None:
    """Made-up key IDs can't have the provider flooded, and a minute later a true one is found."""
    await keys.refresh()
    for number in range(50):
        assert not await has(keys, f"made-up-{number}")
    asked = standin.asked[KEYS]
    standin.publish(TWO)
    clock.now += 59.9
    early = await has(keys, "two")
    clock.now += 0.1

    assert asked == 2
    assert not early
    assert await has(keys, "two")
    assert standin.asked[KEYS] == 3


async def test_keys_that_dont_do_are_asked_for_once_a_minute(standin: StandIn, keys: ProviderKeys, clock: Clock) -> None:
    """A JWT that names no key can only say that none of those known is its own; who has seen older ones than these is given these."""
    await keys.refresh()
    old = keys.current
    assert old is not None
    renewed = [await keys.renewed(old) for _ in range(50)]
    asked = standin.asked[KEYS]
    clock.now += 60
    await keys.renewed(renewed[-1])

    assert asked == 2
    assert {id(one) for one in renewed} == {id(renewed[0])} != {id(old)}
    assert standin.asked[KEYS] == 3


async def test_calls_share_one_fetch(standin: StandIn, keys: ProviderKeys) -> None:
    """However many JWTs come with an unknown key at once, the provider is asked once, and all are answered by it."""
    await keys.refresh()
    standin.publish(ONE, TWO)

    found = await asyncio.gather(*(has(keys, "two") for _ in range(50)))

    assert all(found)
    assert standin.asked[KEYS] == 2


async def test_known_keys_dont_wait_for_a_fetch(standin: StandIn, keys: ProviderKeys) -> None:
    """While a fetch hangs, JWTs of known keys are verified."""
    await keys.refresh()
    standin.slow = True
    waiting = asyncio.create_task(has(keys, "two"))

    async def asked() -> bool:
        return standin.asked[DISCOVERY] == 2

    await until(asked)
    found = await has(keys, "one")

    assert found
    assert not waiting.done()
    assert await waiting is False


async def test_who_hangs_up_doesnt_stop_the_fetch(standin: StandIn, keys: ProviderKeys) -> None:
    """A cancelled call leaves the fetch to those who wait with it."""
    standin.slow = True
    first, second = asyncio.create_task(has(keys, "one")), asyncio.create_task(has(keys, "one"))

    async def asked() -> bool:
        return standin.asked[DISCOVERY] == 1

    await until(asked)
    first.cancel()
    standin.held.set()

    assert await second
    assert standin.asked[DISCOVERY] == 1


async def test_a_withdrawn_key_is_forgotten(standin: StandIn, keys: ProviderKeys) -> None:
    """After the next fetch, what the provider doesn't publish any more is unknown."""
    await keys.refresh()
    before = await has(keys, "one")
    standin.publish(TWO)
    await keys.refresh()

    assert before
    assert not await has(keys, "one")


# --- outages


def garbage() -> Response:
    """No JSON."""
    return PlainTextResponse("<html>")


def huge() -> Response:
    """More than is taken."""
    return PlainTextResponse(" " * 256 * 1024 + "{}")


def down() -> Response:
    """An error."""
    return JSONResponse({}, 503)


FAULTS: list[Callable[[], Response]] = [down, garbage, huge, redirect(KEYS), lambda: JSONResponse([]), lambda: JSONResponse({"keys": []})]


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize("fault", FAULTS, ids=["down", "garbage", "huge", "redirect", "list", "none"])
async def test_an_outage_keeps_the_known_keys(standin: StandIn, keys: ProviderKeys, path: str, fault: Callable[[], Response]) -> None:
    """Whatever the provider answers in the place of its documents, the known keys stay, with a line in the log, and it recovers."""
    await keys.refresh()
    standin.publish(TWO)
    standin.fail(fault, path)
    with capture_logs() as lines:
        await keys.refresh()
    kept = await has(keys, "one")
    standin.fail(None)
    await keys.refresh()

    assert kept
    assert [(line["log_level"], line["known"]) for line in lines] == [("warning", 1)]
    assert await has(keys, "two")


async def test_a_slow_provider_is_an_outage(standin: StandIn, keys: ProviderKeys) -> None:
    """A fetch that takes too long is given up."""
    await keys.refresh()
    standin.slow = True
    await keys.refresh()

    assert await has(keys, "one")


@pytest.mark.parametrize(
    "changed",
    [
        {"issuer": "https://somebody.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": ["https://login.example/keys"]},
        {"jwks_uri": "file:///etc/hosts"},
        {"jwks_uri": "ftp://127.0.0.1/keys"},
        {"jwks_uri": "https://"},
        {"jwks_uri": "http://[::1/keys"},
        {"jwks_uri": "/jwks"},
    ],
)
async def test_a_document_that_isnt_the_issuers_is_refused(standin: StandIn, keys: ProviderKeys, changed: dict[str, object]) -> None:
    """Discovery must name exactly the issuer that was set, and where its keys are."""
    standin.discovery = changed
    with pytest.raises(TokenUnavailable):
        await keys.having("one")

    assert keys.current is None
    assert standin.asked[KEYS] == 0


async def test_keys_of_an_https_issuer_come_over_https() -> None:
    """An issuer that has TLS can't have its keys where there is none."""
    asked = []

    class Written:
        async def get(self, url: str) -> Document:
            asked.append(url)
            return Document(b'{"issuer":"https://login.example/realm","jwks_uri":"http://login.example/keys"}')

    keys = ProviderKeys("https://login.example/realm", Written())
    await keys.refresh()

    assert keys.current is None
    assert asked == [f"https://login.example/realm{DISCOVERY}"]


async def test_without_any_keys_nothing_can_be_told(standin: StandIn, keys: ProviderKeys, clock: Clock) -> None:
    """Before the first key set came, a JWT is neither right nor wrong: 503 and when to try again; and once it came, it is verified."""
    standin.fail(down)
    with pytest.raises(TokenUnavailable) as refused:
        await keys.having("one")
    with pytest.raises(TokenUnavailable):
        await keys.having("one")
    asked = standin.asked[DISCOVERY]
    standin.fail(None)
    clock.now += 60

    assert refused.value.retry_after == 1
    assert asked == 1
    assert await has(keys, "one")


async def test_a_defect_of_our_own_is_an_outage(clock: Clock) -> None:
    """What nobody foresaw is logged with its trace, and doesn't end the fetching."""

    class Broken:
        async def get(self, url: str) -> Document:
            raise ZeroDivisionError(url)

    keys = ProviderKeys("https://login.example", Broken(), clock)
    with capture_logs() as lines:
        await keys.refresh()
        await keys.refresh()

    assert [line["log_level"] for line in lines] == ["error", "warning"] * 2
    assert keys.pause == 2


# --- how often


@pytest.mark.parametrize(
    ("cache_control", "pause"),
    [(None, 3_600), ("max-age=0", 300), ("max-age=299", 300), ("max-age=1000", 1_000), ("max-age=86400", 3_600), ("no-store", 3_600)],
)
async def test_keys_are_fetched_as_often_as_the_provider_says(
    standin: StandIn, keys: ProviderKeys, cache_control: str | None, pause: float
) -> None:
    """`max-age` counts between five minutes and an hour; without it, an hour."""
    standin.cache_control = cache_control
    await keys.refresh()

    assert keys.pause == pause


async def test_after_a_failure_the_next_fetch_comes_sooner(standin: StandIn, keys: ProviderKeys) -> None:
    """After 1 s, 2 s, and so on to a minute; after a good one as usual."""
    standin.fail(down)
    pauses = []
    for _ in range(9):
        await keys.refresh()
        pauses.append(keys.pause)
    standin.fail(None)
    await keys.refresh()

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert keys.pause == 3_600


async def test_a_question_that_failed_is_repeated_soon(standin: StandIn, keys: ProviderKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key that couldn't be fetched when it was first seen is fetched after 1 s, 2 s …, not after the hour that was begun before."""
    monkeypatch.setattr("app.callers.provider.LONGEST_RETRY", 0.0)
    async with keys.kept_fresh():

        async def known() -> bool:
            return keys.current is not None and keys.pause == 3_600

        await until(known)
        standin.publish(ONE, TWO)
        standin.fail(down)
        asked = await has(keys, "two")
        standin.fail(None)

        async def fetched() -> bool:
            return await has(keys, "two")

        await until(fetched)

    assert not asked


async def test_the_background_ends_with_a_fetch_under_way(standin: StandIn, keys: ProviderKeys) -> None:
    """Closing doesn't wait for a provider that hangs."""
    standin.slow = True

    async def asked() -> bool:
        return standin.asked[DISCOVERY] == 1

    async with keys.kept_fresh():
        await until(asked)

    assert keys.current is None
