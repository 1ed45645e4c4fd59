"""The house put together: `create_app(settings)` wires the rooms, in this one place. Importing it has no effect."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from app.administration import Administration
from app.api import Services, build_app, build_control
from app.audit import AuditLog
from app.callers import (
    Authentication,
    Directory,
    IdentityProvider,
    KeyUses,
    Origins,
    ProviderKeys,
    TicketKey,
    TicketVerifier,
    Verifier,
)
from app.carrier import Carrier
from app.catalogue import Catalogue, load_catalogue
from app.declaration import Keeper
from app.deferring import Deferral
from app.dispatch import Dispatcher, Link, SharedTurns, valkey_connections
from app.errors import StartRefused
from app.gateway import Gateway
from app.house import House
from app.jobbing import JobRunner
from app.jobcalls import PartCalls
from app.jobintake import JobIntake
from app.joboffice import JobOffice
from app.jobs import Followers, JobQuota, JobRetention
from app.opening import open_state
from app.register import Register, open_register
from app.repeating import Repeats
from app.settings import Settings
from app.storage import reading, writing
from app.supervision import Supervision
from app.ticketing import TicketOffice
from app.trial import Trial
from app.upstream import open_documents, open_upstream
from app.vault import TICKET_SIGNING, Keyring, Vault, check_sealed, own_key

__all__ = ["House", "begin_shutdown", "create_app", "create_control", "house_of", "product_version"]


def product_version() -> str:
    """The installed version."""
    return version("flxpoint-gateway")


def create_app(settings: Settings, hangup: asyncio.Event | None = None) -> FastAPI:
    """The gateway's application. Its lifespan opens the state folder, the database and the upstream's client, and closes them.

    Args:
        settings: everything an operator can set.
        hangup: when it is set, the configuration file is read again, and it is cleared; a change of the file needs no such sign.

    Raises:
        StartRefused: the catalogue can't be used. The lifespan raises it for keys, database and configuration file.
    """
    catalogue = load_catalogue(settings.catalogue)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _open_house(settings, catalogue, hangup or asyncio.Event()) as house:
            app.state.house = house
            app.state.services = house.services
            yield

    return build_app(catalogue, settings, version=product_version(), lifespan=lifespan)


def create_control(app: FastAPI) -> ASGIApp:
    """What commands of this machine talk to, for an application whose lifespan has begun."""
    return build_control(house_of(app).services)


def house_of(app: FastAPI) -> House:
    """The running gateway behind an application whose lifespan has begun."""
    house: House = app.state.house
    return house


def begin_shutdown(app: FastAPI) -> None:
    """Let what waits come to its end within the grace time; nothing where nothing is open yet."""
    house: House | None = getattr(app.state, "house", None)
    if house:
        house.begin_shutdown()


@dataclass(frozen=True, slots=True)
class _Callers:
    """How callers prove themselves, and whose pages they have."""

    authentication: Authentication
    origins: Origins
    ticket_key: TicketKey


@asynccontextmanager
async def _open_house(settings: Settings, catalogue: Catalogue, hangup: asyncio.Event) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        engine, keyring = await stack.enter_async_context(open_state(settings))
        async with reading(engine) as connection:
            # First of all: with a wrong master key nothing is changed or made, and the tokens that it doesn't open are named.
            await check_sealed(connection, keyring)
        register = await stack.enter_async_context(open_register(settings, engine, keyring))
        if settings.config_file:
            keeper = Keeper(settings.config_file, engine, keyring, os.environ, [one.id for one in catalogue])
            await keeper.apply()
            await stack.enter_async_context(keeper.watching(hangup))
        house = _open_lanes(stack, settings, engine, Vault(keyring), register, turns=await _open_turns(stack, settings))
        await house.refresh()
        callers = await _open_callers(stack, settings, house, await _ticket_key(engine, keyring))
        gateway = Gateway(house.vault, house.audit, house.dispatcher, time.monotonic)
        house.followers = Followers(engine, catalogue, house.dispatcher)
        parts = PartCalls(gateway, house.directory, catalogue, register.outcome)
        # A lock file keeps other processes from SQLite's file, so that whoever else holds a job is dead; on a server leases tell.
        runner = JobRunner(engine, parts, alone=settings.is_embedded, watchers=(house.followers,))
        repeats = Repeats(engine, gateway, register.outcome, alone=settings.is_embedded)
        intake = JobIntake(engine, house.audit, JobQuota(settings.jobs_per_caller, settings.job_ids_per_caller), repeats, runner.wake)
        office = JobOffice(
            engine=engine,
            tokens=house.vault,
            catalogue=catalogue,
            lanes=house.dispatcher,
            audit=house.audit,
            intake=intake,
            cancel=runner.cancel,
        )
        house.services = Services(
            gateway=gateway,
            callers=callers.authentication,
            origins=callers.origins,
            tokens=house.vault,
            tickets=TicketOffice(callers.ticket_key, callers.origins, catalogue, house.audit, time.time),
            refusals=house.audit,
            readiness=house,
            lanes=Supervision(house.vault, house.dispatcher, house.audit),
            trials=Trial(house.vault, house.dispatcher, house.audit, catalogue.probes, time.monotonic),
            records=register.reader,
            jobs=office,
            deferral=Deferral(intake, repeats, gateway, runner),
            repeats=repeats,
            following=house.followers,
            administration=lambda actor: Administration(engine, keyring, actor),
            heed_changes=house.heed_changes,
            master_keys=list(keyring.ids),
            operations=frozenset(operation.id for operation in catalogue),
            default_wait=settings.default_wait,
            max_wait=settings.max_wait,
        )
        house.jobs = runner
        stack.push_async_callback(repeats.finish)
        stack.push_async_callback(house.close)
        await stack.enter_async_context(register.kept())
        await stack.enter_async_context(house.followers.kept())
        await stack.enter_async_context(runner.kept())
        await stack.enter_async_context(JobRetention(engine, settings.job_retention, register.lead).kept())
        await stack.enter_async_context(repeats.kept())
        await stack.enter_async_context(house.kept_fresh())
        yield house
        await house.drained()


async def _open_turns(stack: AsyncExitStack, settings: Settings) -> SharedTurns | None:
    """Where turns are taken that other processes take too, if there is such a place. It need not answer for the gateway to start.

    Raises:
        StartRefused: its address can't be used.
    """
    if settings.valkey_url is None:
        return None
    try:
        link = Link(valkey_connections(settings.valkey_url.get_secret_value()))
    except ValueError as error:
        message = f"GATEWAY_VALKEY_URL: {error}"
        raise StartRefused(message) from None
    await stack.enter_async_context(link.kept())
    return SharedTurns(link, time.monotonic)


def _open_lanes(  # noqa: PLR0913 - what the lanes work with
    stack: AsyncExitStack, settings: Settings, engine: AsyncEngine, vault: Vault, register: Register, *, turns: SharedTurns | None
) -> House:
    """The lanes with what they send through and what they record in; the house, but for its services."""
    upstream = open_upstream(str(settings.upstream_url))
    stack.push_async_callback(upstream.aclose)
    directory, audit = Directory(), AuditLog(register.writer, register.held_since)
    dispatcher = Dispatcher(
        time.monotonic,
        Carrier(vault, directory, audit, upstream),
        depth=settings.lane_depth,
        caller_depth=settings.caller_depth,
        coalesce=settings.coalesce,
        turns=turns,
    )
    return House(engine, vault, directory, dispatcher, audit, register.writer, settings.shutdown_grace)


async def _ticket_key(engine: AsyncEngine, keyring: Keyring) -> TicketKey:
    async with writing(engine) as connection:
        return TicketKey(await own_key(connection, keyring, TICKET_SIGNING))


async def _open_callers(stack: AsyncExitStack, settings: Settings, house: House, ticket_key: TicketKey) -> _Callers:
    directory = house.directory
    origins = Origins(directory, frozenset(settings.cors_origins))
    uses = await stack.enter_async_context(KeyUses(house.engine).kept())
    verifiers = (TicketVerifier(ticket_key, directory, origins, time.time), *await _provider(stack, settings, directory))
    return _Callers(Authentication(directory, verifiers, note_use=uses.note), origins, ticket_key)


async def _provider(stack: AsyncExitStack, settings: Settings, directory: Directory) -> tuple[Verifier, ...]:
    """Who can tell whose a JWT of the identity provider is, if there is one. It need not answer for the gateway to start."""
    if settings.oidc_issuer is None:
        return ()
    documents = open_documents()
    stack.push_async_callback(documents.aclose)
    keys = ProviderKeys(settings.oidc_issuer, documents)
    await stack.enter_async_context(keys.kept_fresh())
    return (IdentityProvider(settings.oidc_issuer, settings.oidc_audience, keys, directory),)
