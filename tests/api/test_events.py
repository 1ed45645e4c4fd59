"""`/gateway/jobs/{id}/events`: a job is followed on a real socket, to its end or until something parts the two."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from sqlalchemy import update

from app.api.events import EventStream
from app.callers import Presented
from app.storage import writing
from app.storage.tables import jobs
from tests.batches import HELD, JOBS, ask_batch, bearing, caller_with, code_of, ended, get, hold
from tests.rig import TOKEN, Rig, rigged, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOP = "https://shop.example"


@dataclass
class Event:
    """One event as it came; without a name it is a comment, or a time to wait before the next try."""

    fields: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str | None:
        """Its kind."""
        return self.fields.get("event")

    @property
    def job(self) -> Any:
        """The job in it."""
        return json.loads(self.fields["data"])


@dataclass
class Stream:
    """An open stream of events."""

    answer: httpx2.Response
    lines: AsyncIterator[str]

    async def next(self) -> Event | None:
        """What comes next; None where the stream is over."""
        event = Event()
        async with asyncio.timeout(20):
            async for line in self.lines:
                if not line:
                    return event
                name, _, value = line.partition(":")
                event.fields[name] = value.strip()
        return None

    async def rest(self) -> list[Event]:
        """All that comes until the stream is over."""
        events = []
        while event := await self.next():
            events.append(event)
        return events


@asynccontextmanager
async def following(rig: Rig, key: str, location: str, **headers: str) -> AsyncIterator[Stream]:
    """Follow a job."""
    given = bearing(key) | {name.replace("_", "-"): value for name, value in headers.items()}
    async with rig.client.stream("GET", f"{rig.url}{location}/events", headers=given) as answer:
        if answer.status_code >= 400:
            await answer.aread()
        yield Stream(answer, answer.aiter_lines())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A gateway with two tokens, one of which sends nothing."""
    async with rigged(tmp_path_factory.mktemp("state"), (TOKEN, HELD), cors_origins=(SHOP,)) as running:
        await hold(running)
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def held(rig: Rig, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The key of a new caller, and where its job is of which nothing is sent."""
    key = await caller_with(rig, request.node.name[:60].strip("-[]").replace("_", "-").replace("[", "-"), "held")
    return key, (await ask_batch(rig, key, [1])).headers["Location"]


async def begun(stream: Stream) -> Event:
    """The first event, after the time to wait before a next try."""
    hint, first = await stream.next(), await stream.next()

    assert hint is not None
    assert first is not None
    assert hint.fields == {"retry": "2000"}
    return first


async def taken(rig: Rig, key: str, location: str) -> None:
    """Wait until the first call of a job is under way."""

    async def has_started() -> bool:
        return bool((await get(rig, key, location)).json()["started_at"])

    await until(has_started)


async def has_no_followers(rig: Rig) -> None:
    """Wait until nobody follows anything."""

    async def nobody() -> bool:
        return rig.house.followers.count == 0

    await until(nobody)


# --- to the end


async def test_a_job_is_followed_to_its_end(rig: Rig) -> None:
    """Events show how it gets on, the last one that it has ended, and then the stream is over."""
    key = await caller_with(rig, "follows")
    asked = await ask_batch(rig, key, range(1001, 1151))
    async with following(rig, key, asked.headers["Location"]) as stream:
        events = [await begun(stream), *await stream.rest()]
    named = [event for event in events if event.name]
    answered = [event.job["counts"]["answered"] for event in named]
    shown = (await get(rig, key, asked.headers["Location"])).json()

    assert stream.answer.headers["Content-Type"] == "text/event-stream"
    assert stream.answer.headers["Cache-Control"] == "no-store"
    assert stream.answer.headers["X-Accel-Buffering"] == "no"
    assert [event.name for event in named] == ["progress"] * (len(named) - 1) + ["end"]
    assert answered == sorted(answered)
    assert answered[-1] == 150
    assert len({event.fields["id"] for event in named}) == len(named) >= 2
    assert named[-1].job == {name: value for name, value in shown.items() if name not in {"failures", "more_failures"}}


async def test_the_first_event_tells_the_expected_end(rig: Rig, held: tuple[str, str]) -> None:
    """Whoever begins to follow has all that there is to show at once."""
    async with following(rig, *held) as stream:
        first = await begun(stream)

    assert (first.name, first.job["counts"]["total"]) == ("progress", 1)
    assert 1 <= first.job["expected_seconds"] <= 62
    assert first.job["expected_end"] > first.job["created_at"]


async def test_after_the_end_there_is_nothing_more(rig: Rig) -> None:
    """With the ID of the end comes 204, on which browsers ask no more; with another ID, or none, the end comes again."""
    key = await caller_with(rig, "comes-late")
    location = (asked := await ask_batch(rig, key, [1301])).headers["Location"]
    await ended(rig, asked)
    async with following(rig, key, location) as stream:
        [end, *_] = [event for event in await stream.rest() if event.name]
    again = await get(rig, key, f"{location}/events", **{"Last-Event-ID": end.fields["id"]})
    async with following(rig, key, location, Last_Event_ID="running.0.0.0.1.0") as stream:
        others = [event.name for event in await stream.rest() if event.name]

    assert end.name == "end"
    assert (again.status_code, again.content) == (204, b"")
    assert others == ["end"]


async def test_after_a_drop_only_what_is_new_comes(rig: Rig, held: tuple[str, str]) -> None:
    """Whoever names the event that it had last isn't told the same again, but what comes next."""
    key, location = held
    await taken(rig, key, location)
    async with following(rig, key, location) as stream:
        first = await begun(stream)
    async with following(rig, key, location, Last_Event_ID=first.fields["id"]) as stream:
        hint = await stream.next()
        await rig.client.delete(rig.url + location, headers=bearing(key))
        next_one = await stream.next()

    assert hint is not None
    assert next_one is not None
    assert (hint.name, next_one.name) == (None, "progress")
    assert (first.job["cancelling"], next_one.job["cancelling"]) == (False, True)


# --- who may


@pytest.mark.parametrize("job_id", ["none", "01a213d2-9ff2-76ee-9700-6fefd9b36ad6"])
async def test_a_job_that_isnt_there_cant_be_followed(rig: Rig, job_id: str) -> None:
    """As on every route of one job."""
    answer = await get(rig, rig.key, f"{JOBS}/{job_id}/events")

    assert (answer.status_code, code_of(answer)) == (404, "not-found")


async def test_anothers_job_cant_be_followed(rig: Rig, held: tuple[str, str]) -> None:
    """It is as if there were none."""
    other = await caller_with(rig, "eavesdropper", "held")
    answer = await get(rig, other, f"{held[1]}/events")

    assert (answer.status_code, code_of(answer)) == (404, "not-found")


async def test_a_page_follows_what_its_ticket_asked_for(rig: Rig) -> None:
    """With the ticket in the header, as pages can by fetch; another visitor's ticket finds nothing."""
    key = await caller_with(rig, "shop-pages", "held")
    pages = []
    for _ in range(2):
        given = await rig.client.post(f"{rig.url}/gateway/tickets", json={"origin": SHOP}, headers=bearing(key))
        pages.append(given.json()["ticket"])
    body = {"operation": "link-orders", "parameter": "orderIds", "ids": [2]}
    asked = await rig.client.post(f"{rig.url}/gateway/batches", json=body, headers=bearing(pages[0]) | {"Origin": SHOP})
    async with following(rig, pages[0], asked.headers["Location"], Origin=SHOP) as stream:
        first = await begun(stream)
    async with following(rig, pages[1], asked.headers["Location"], Origin=SHOP) as other:
        pass

    assert first.job["id"] == asked.json()["id"]
    assert stream.answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert other.answer.status_code == 404


async def test_a_caller_who_loses_its_right_is_told_nothing_more(rig: Rig) -> None:
    """The stream ends where the next event would have come; a new try is refused."""
    key = await caller_with(rig, "dismissed", "held")
    location = (await ask_batch(rig, key, [1])).headers["Location"]
    await taken(rig, key, location)
    async with following(rig, key, location) as stream:
        await begun(stream)
        await rig.administer(lambda administration: administration.set_caller_enabled("dismissed", enabled=False))
        async with writing(rig.house.engine) as connection:
            await connection.execute(update(jobs).where(jobs.c.id == location.rpartition("/")[2]).values(cancelling=1))
        rest = await stream.rest()
    again = await get(rig, key, f"{location}/events")

    assert [event.name for event in rest if event.name] == []
    assert (again.status_code, code_of(again)) == (401, "credentials-invalid")


# --- what parts them


async def test_a_client_that_hangs_up_is_let_go(rig: Rig, held: tuple[str, str]) -> None:
    """Nothing is kept for it; the job goes on."""
    async with following(rig, *held) as stream:
        await begun(stream)
        before = rig.house.followers.count
    await has_no_followers(rig)

    assert before == 1
    assert (await get(rig, *held)).json()["state"] in {"queued", "running"}


async def test_at_shutdown_streams_end_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """They say when to come back, and hold nothing up; who comes meanwhile is refused."""
    async with rigged(tmp_path_factory.mktemp("ending"), (TOKEN, HELD)) as rig:
        await hold(rig)
        location = (await ask_batch(rig, rig.key, [1], token="held")).headers["Location"]
        async with following(rig, rig.key, location) as stream:
            await begun(stream)
            rig.house.begin_shutdown()
            *_, last = await stream.rest()
        late = await get(rig, rig.key, f"{location}/events")

    assert 1_000 <= int(last.fields["retry"]) < 5_000
    assert (late.status_code, code_of(late)) == (503, "shutting-down")
    assert int(late.headers["Retry-After"]) > 0


# --- the stream itself


@dataclass
class Client:
    """A client on the other side of the application, which takes so many pieces, then nothing."""

    takes: int
    taken: list[bytes] = field(default_factory=list)
    has_all: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take a piece, or never come back."""
        if len(self.taken) == self.takes:
            await asyncio.Event().wait()
        if message["type"] == "http.response.body":
            self.taken.append(message["body"])
            if len(self.taken) == self.takes:
                self.has_all.set()

    async def receive(self) -> dict[str, Any]:
        """Hang up once it has all."""
        await self.has_all.wait()
        return {"type": "http.disconnect"}

    async def stay(self) -> dict[str, Any]:
        """Never hang up."""
        await asyncio.Event().wait()
        return {}


async def stream_of(rig: Rig, key: str, location: str, **given: Any) -> EventStream:
    """A job's stream, with times of its own."""
    services = rig.house.services
    presented = Presented(authorization=[f"Bearer {key}"], x_api_token=[], address="127.0.0.1", origins=[], host=None)
    caller = replace(await services.callers.authenticate(presented), **{name: given.pop(name) for name in ("basis",) if name in given})
    return EventStream(services, caller, await services.jobs.glance(caller, location.rpartition("/")[2]), None, **given)


SCOPE: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": ("127.0.0.1", 1)}


async def test_comments_keep_a_quiet_stream_open(rig: Rig, held: tuple[str, str]) -> None:
    """Proxies see that something comes, though nothing happens."""
    await taken(rig, *held)
    client = Client(takes=4)
    async with asyncio.timeout(20):
        await (await stream_of(rig, *held, keep_alive=0.01))(SCOPE, client.receive, client.send)

    assert client.taken[0] == b"retry: 2000\n\n"
    assert client.taken[2:] == [b":\n\n"] * 2


async def test_a_quiet_stream_ends_with_its_callers_right(rig: Rig, held: tuple[str, str]) -> None:
    """Also where nothing happens it is looked at now and then whether the caller may still follow."""
    client = Client(takes=100)
    stream = await stream_of(rig, *held, keep_alive=0.01, basis="withdrawn")
    async with asyncio.timeout(20):
        await stream(SCOPE, client.stay, client.send)

    assert [piece.split(b":")[0] for piece in client.taken] == [b"retry", b"retry"]


async def test_a_client_that_takes_nothing_is_let_go(rig: Rig, held: tuple[str, str]) -> None:
    """It doesn't hold its place for ever, and the server closes its connection."""
    client = Client(takes=1)
    async with asyncio.timeout(20):
        await (await stream_of(rig, *held, send_seconds=0.01))(SCOPE, client.stay, client.send)
    await has_no_followers(rig)

    assert client.taken == [b"retry: 2000\n\n"]
