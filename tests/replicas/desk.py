"""Asking any replica for jobs, and what became of them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from app.administration import Administration
from app.callers import NewCaller
from app.domain import Role
from app.opening import open_state
from app.settings import Settings
from benchmarks.stage import OWN_VARIABLES, PREPARING
from tests import loopback
from tests.cli.processes import PATIENCE_SECONDS
from tests.replicas.fleet import Fleet, Replica

__all__ = ["ADMINISTRATOR", "POLL_SECONDS", "Desk", "Event", "desk_of"]

IDS_A_SEND = 50
POLL_SECONDS = 0.05
RECOVERY_SECONDS = 40.0
ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event of a job."""

    kind: str
    id: str
    job: dict[str, Any]


@dataclass(frozen=True)
class Desk:
    """A client of all replicas of a fleet."""

    fleet: Fleet
    client: httpx2.AsyncClient = field(repr=False)
    keys: Mapping[str, str] = field(repr=False)

    @property
    def living(self) -> list[Replica]:
        """The replicas that weren't killed."""
        return [one for one in self.fleet.replicas if one.child.process.poll() is None]

    async def ask(self, method: str, replica: Replica, path: str, caller: str, **given: Any) -> httpx2.Response:
        """One request; further headers are in `headers`."""
        headers = {"Authorization": f"Bearer {self.keys[caller]}"} | given.pop("headers", {})
        return await self.client.request(method, replica.child.address.url + path, headers=headers, **given)

    def new_ids(self, sends: int) -> list[int]:
        """Orders that nothing else asks for, enough for so many sends."""
        return list(islice(self.fleet.orders, sends * IDS_A_SEND))

    async def put_down(
        self, replica: Replica, caller: str, token: str, ids: Sequence[int], headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        """Ask for a batch."""
        batch = {"operation": "link-orders", "parameter": "orderIds", "ids": list(ids), "token": token}
        return await self.ask("POST", replica, "/gateway/batches", caller, json=batch, headers=headers or {})

    async def link(self, replica: Replica, caller: str, token: str, order: int, **headers: str) -> httpx2.Response:
        """Link one order."""
        named = {name.replace("_", "-"): value for name, value in headers.items()} | {"Gateway-Token": token}
        return await self.ask("PATCH", replica, f"/orders/link?orderIds={order}", caller, headers=named)

    async def job(self, replica: Replica, caller: str, job_id: str) -> dict[str, Any]:
        """A job as a replica shows it."""
        shown: dict[str, Any] = (await self.ask("GET", replica, f"/gateway/jobs/{job_id}", caller)).raise_for_status().json()
        return shown

    async def finished(self, replica: Replica, caller: str, job_id: str) -> dict[str, Any]:
        """A job, once a replica shows it as finished: where its process died that may take the lease of its record's chain, 30 s, more.

        Raises:
            TimeoutError: it isn't in time.
        """
        async with asyncio.timeout(RECOVERY_SECONDS + PATIENCE_SECONDS):
            while not (shown := await self.job(replica, caller, job_id))["finished_at"]:
                await asyncio.sleep(POLL_SECONDS)
        return shown

    @asynccontextmanager
    async def events(self, replica: Replica, caller: str, job_id: str, last: str | None = None) -> AsyncIterator[AsyncIterator[Event]]:
        """Follow a job while the context lasts, from the event with the ID `last` on."""
        headers = {"Authorization": f"Bearer {self.keys[caller]}"} | ({"Last-Event-ID": last} if last else {})
        address = f"{replica.child.address.url}/gateway/jobs/{job_id}/events"
        async with self.client.stream("GET", address, headers=headers) as answer:
            yield _events(answer.raise_for_status().aiter_lines())

    async def outcomes(self, replica: Replica, caller: str, job_id: str) -> dict[int, dict[str, Any]]:
        """A finished job's result, by ID."""
        answer = (await self.ask("GET", replica, f"/gateway/jobs/{job_id}/result", caller)).raise_for_status()
        return {line["id"]: line for line in map(json.loads, answer.text.splitlines())}

    def records(self, name: str, token: str) -> list[dict[str, Any]]:
        """What is on record under a name of a token's calls, in the order in which it was written."""
        where = f"name = '{name}' AND token = '{token}'"
        rows = self.fleet.postgres.ask(f"SELECT body FROM audit_records WHERE {where} ORDER BY number", self._database)  # noqa: S608 - our own
        return [json.loads(row) for row in rows]

    def sender(self, token: str) -> Replica:
        """The replica that carries out the one job of a token: whichever saw it first."""
        (chain,) = {one["chain"] for one in self.records("send:intent", token)}
        (opening,) = [one for one in self.fleet.records() if one["name"] == "chain:opened" and one["chain"] == chain]
        (found,) = [one for one in self.living if one.child.process.pid == opening["process"]]
        return found

    @property
    def _database(self) -> str:
        return self.fleet.variables["GATEWAY_DATABASE_URL"].rpartition("/")[2]

    async def arrived_ids(self, *tokens: str) -> Counter[int]:
        """How often each order was asked for, at the simulator, with these tokens."""
        address = f"{self.fleet.simulator.address.url}/_simulator/targets"
        answers = [(await self.client.get(address, params={"token": token})).raise_for_status().json() for token in tokens]
        targets = [target for told in answers for target in told]
        return Counter(int(one) for target in targets for one in parse_qs(urlsplit(target).query)["orderIds"][0].split(","))


@asynccontextmanager
async def desk_of(fleet: Fleet) -> AsyncIterator[Desk]:
    """A desk, which has the key of an administrator too."""
    keys = {**fleet.keys, ADMINISTRATOR: await _administrator(fleet)}
    async with loopback.async_client(timeout=PATIENCE_SECONDS, limits=httpx2.Limits(max_connections=None)) as client:
        yield Desk(fleet, client, keys)


async def _administrator(fleet: Fleet) -> str:
    """A caller that may change all; gives its key."""
    given: dict[str, Any] = {
        name.removeprefix("GATEWAY_").lower(): fleet.variables[name]
        for name in ("GATEWAY_STATE_DIR", "GATEWAY_DATABASE_URL", "GATEWAY_MASTER_KEYS")
    }
    async with PREPARING, open_state(Settings(_env_prefix=OWN_VARIABLES, **given)) as (engine, keyring):
        new = NewCaller(ADMINISTRATOR, role=Role.ADMIN)
        _, key = await Administration(engine, keyring, "command:tests").add_caller(new)
    return str(key.reveal())


async def _events(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        elif "data" in fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}
