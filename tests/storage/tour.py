"""A tour of the product on both databases, to note which statements its code executes: `make statements`.

It is to be taken before a migration is written: what it keeps is of the schema that is the newest then.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sqlalchemy.ext.asyncio import AsyncEngine

from app.administration import Administration
from app.audit import Ledger, Signer
from app.audit.records import call_intent, send_intent
from app.audit.recovery import Recovery
from app.audit.verification.verification import verify
from app.callers import GrantAsked, NewCaller
from app.declaration import Keeper
from app.domain import Role, Send, TokenKind, TokenValue
from app.jobs.retention import JobRetention
from app.opening import open_database, open_state
from app.proving import read_only, trusted_keys
from app.retention import open_retention
from app.settings import Settings
from app.simulator.tokens import SimulatedToken
from app.storage import ALONE, DatabaseThread
from app.storage.migrate import newest_schema
from app.vault import NewToken, TokenChange
from tests.batches import JOBS, ask_batch, ask_file, bearing, caller_with, ended, get
from tests.calls import make_call
from tests.declaration.files import files_in
from tests.rig import TOKEN, Rig, rigged, settings_for
from tests.servers.postgres import postgres
from tests.storage.executed import KEPT, noting

SPARE = SimulatedToken("spare", "a-simulated-token-value-0002", "account")
SIGNER = Signer(bytes(range(32)))
FILTERS = ("caller=order-service", "token=shop", "order=1001", "code=ok", "name=call:outcome", "by=test:rig", "since=2020-01-01")
ADMIN = (
    "/tokens",
    "/callers",
    "/lanes",
    "/audit",
    "/audit?limit=2",
    *(f"/audit?{one}" for one in (*FILTERS, "until=2120-01-01", "&".join(FILTERS))),
)


async def tour(settings: Settings) -> None:
    """Do all that the product does to a new database."""
    await _serve(settings)
    async with open_state(settings) as (engine, keyring):
        await _administer(Administration(engine, keyring, "test:tour"))
        await _declare(engine, keyring, settings.state_dir)
        await _end_the_dead(engine)
        with patch("app.retention.YOUNGEST_HOURS", 0):
            async with open_retention(engine, keyring, "test:tour", None) as retention:
                await retention.prune(await retention.plan(datetime.now(UTC)))
        await JobRetention(engine, 0, ALONE).sweep()
    if settings.is_embedded:
        with read_only(settings) as scan:
            verify(scan, trusted_keys(settings, scan, []))


async def _serve(settings: Settings) -> None:
    handing_on = {"audit_stream": f"file:{settings.state_dir}.jsonl", "audit_anchor_command": "true"}
    async with rigged(settings.state_dir, (TOKEN, SPARE), database_url=settings.database_url, **handing_on) as rig:
        admin, caller = await caller_with(rig, "ops", role=Role.ADMIN), await caller_with(rig, "batches")
        await _call(rig)
        await _do_jobs(rig, caller)
        await _look(rig, admin)
        await rig.house.refresh()


async def _call(rig: Rig) -> None:
    """Calls that are answered, refused, repeated, deferred."""
    chosen = {"Gateway_Token": "shop"}
    await asyncio.gather(*(rig.link(f"orderIds={number}", **chosen) for number in (1001, 1002)), rig.link("orderIds="), rig.link(""))
    for query in ("orderIds=1003", "orderIds=1003", "orderIds=1004"):
        await rig.link(query, **chosen, Idempotency_Key='"one-key"')
    for key in ("a", "a", "b"):
        deferred = await rig.link("orderIds=1005", **chosen, Idempotency_Key=f'"deferred-{key}"', Prefer="respond-async")
    await ended(rig, deferred)


async def _do_jobs(rig: Rig, key: str) -> None:
    """Batches that end, are cancelled, refused and looked at."""
    done = await ask_batch(rig, key, [1001, 1002, 1003])
    job = await ended(rig, done)
    refused = await ask_batch(rig, key, ["none"])
    assert refused.status_code >= 400
    last = await ask_file(rig, key, b"1\n2\n" + b"".join(b"%d\n" % number for number in range(3, 900)))
    await rig.client.delete(f"{rig.url}{JOBS}/{last.json()['id']}", headers=bearing(key))
    await ended(rig, last)
    for path in (JOBS, f"{JOBS}?limit=1", f"{JOBS}/{job.id}", f"{JOBS}/{job.id}/result", f"{JOBS}/{job.id}/events"):
        await get(rig, key, path)
        await get(rig, key, path, Accept="application/x-ndjson")


async def _look(rig: Rig, key: str) -> None:
    """All that an operator can look at, and a few changes over HTTP."""
    found = [(await get(rig, key, f"/gateway/admin{path}")).status_code for path in ADMIN]
    assert found == [200] * len(ADMIN), dict(zip(ADMIN, found, strict=True))
    page = (await get(rig, key, "/gateway/admin/audit?limit=1")).json()
    await get(rig, key, f"/gateway/admin/audit?limit=1&cursor={page['next']}")
    for record in await rig.records():
        if record["name"] in {"call:outcome", "send:intent", "call:intent"}:
            for reference in ("id", "request_id", "call_id", "send_id", "number"):
                if reference in record:
                    await get(rig, key, f"/gateway/admin/audit/{record[reference]}")
            break
    await rig.client.post(f"{rig.url}/gateway/admin/tokens/shop/test", headers=bearing(key))
    await rig.client.post(f"{rig.url}/gateway/admin/lanes/shop/resume", headers=bearing(key))
    await get(rig, key, "/gateway/me")


async def _administer(administration: Administration) -> None:
    """Every change that a command makes."""
    await administration.add_token(NewToken("second", TokenKind.CHANNEL, TokenValue("a-value-of-a-second-token")))
    await administration.change_token("second", TokenChange(rate=1))
    await administration.rotate_token("second", TokenValue("another-value-of-a-second-token"))
    await administration.set_token_enabled("second", enabled=False)
    new = NewCaller(
        "second", (GrantAsked("shop"), GrantAsked("second", ("link-orders",))), "shop", rate="5/second", networks=("10.0.0.0/8",)
    )
    await administration.add_caller(new)
    await administration.adjust_caller("second", lambda caller: NewCaller(caller.name, caller.grants, weight=2))
    await administration.grant("second", GrantAsked("spare"))
    await administration.revoke("second", "spare")
    await administration.rotate_key("second", grace=60)
    await administration.rotate_key("second")
    await administration.set_caller_enabled("second", enabled=False)
    await administration.reseal()
    looks: tuple[Callable[[], Awaitable[Any]], ...] = (administration.tokens, administration.callers, administration.key_uses)
    for look in looks:
        await look()
    await administration.token("shop")
    await administration.caller("second")
    await administration.remove_caller("second")
    await administration.remove_token("second")


async def _declare(engine: AsyncEngine, keyring: Any, folder: Path) -> None:
    """A configuration file, then one that declares less."""
    (declared := folder / "declared").mkdir()
    files = files_in(declared)
    text = files.path.read_text(encoding="utf-8").replace("name: shop", "name: declared").replace("token: shop", "token: declared")
    files.declare(text.replace("order-service", "declared-service").replace("declared-service.key", "order-service.key"))
    keeper = Keeper(files.path, engine, keyring, {}, ["link-orders"])
    await keeper.apply()
    await keeper.apply()
    files.declare("tokens: []\ncallers: []\n")
    await keeper.apply()


async def _end_the_dead(engine: AsyncEngine) -> None:
    """What another process makes of one that was killed."""
    threads = [DatabaseThread(engine) for _ in range(3)]
    call, sent = make_call(1001), make_call(1002)
    send = Send(attempt=1, lane="lane-1", ids=sent.ids, calls=(sent,), released=0.0)
    await Ledger(threads[0], SIGNER).append([call_intent(call), call_intent(sent), send_intent(send)])
    following = Ledger(threads[1], SIGNER)
    await Recovery(threads[2], following, _nothing_spooled, alone=True).recover()
    await following.aclose()
    for thread in threads:
        await thread.aclose()


async def _nothing_spooled() -> None:
    """Nothing is in the spool."""


async def _make(settings: Settings) -> None:
    """Have a database with the newest schema."""
    async with open_database(settings):
        pass


def main() -> None:
    """Take the tour, and keep what was executed."""
    KEPT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, postgres() as server:
        every = settings_for(Path(folder, "file")), settings_for(Path(folder, "server"), database_url=server.new_database())
        for settings in every:
            asyncio.run(_make(settings))
        with noting() as statements:
            for settings in every:
                asyncio.run(tour(settings))
    statements.write(KEPT / f"{newest_schema()}.jsonl")
    print(f"{len(statements.found)} statements of the schema {newest_schema()}")


if __name__ == "__main__":
    main()
