"""The house put together: `create_app(settings)` wires the rooms, in this one place. Importing it has no effect."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from app.administration import Administration
from app.api import Services, build_app, build_control
from app.audit import AuditLog, GroupWriter
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
from app.dispatch import Dispatcher
from app.gateway import Gateway
from app.opening import open_state
from app.settings import Settings
from app.storage import Appender, current_revision, reading, writing
from app.supervision import Supervision
from app.ticketing import TicketOffice
from app.trial import Trial
from app.upstream import open_documents, open_upstream
from app.vault import TICKET_SIGNING, Keyring, Vault, own_key

__all__ = ["House", "create_app", "create_control", "house_of", "product_version"]

REFRESH_SECONDS = 0.5

log = structlog.get_logger(__name__)


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


@dataclass(slots=True)
class House:
    """The running gateway: what it knows, kept fresh, and how it ends."""

    engine: AsyncEngine
    vault: Vault
    directory: Directory
    dispatcher: Dispatcher
    audit: AuditLog
    grace: float
    services: Services = field(init=False)
    _revision: int = -1
    _fresh: bool = False
    _draining: bool = False
    _refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def reasons(self) -> list[str]:
        """Why traffic should not come here; empty when ready."""
        states = {
            "shutting down": self._draining,
            "audit records can't be written": not self.audit.healthy,
            "tokens and callers can't be read": not self._fresh,
        }
        return [reason for reason, holds in states.items() if holds]

    def begin_shutdown(self) -> None:
        """Be not ready from now on; when the grace time is over, put the calls that still wait out, unsent."""
        if not self._draining:
            self._draining = True
            asyncio.get_running_loop().call_later(self.grace, self.dispatcher.close)

    async def refresh(self) -> None:
        """Read tokens and callers anew if they have changed.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database can't be read.
            StartRefused: a token doesn't open.
        """
        # One at a time: of two, the one that read first could be the last to be used.
        async with self._refreshing:
            async with reading(self.engine) as connection:
                revision = await current_revision(connection)
                if revision != self._revision:
                    tokens, callers = await self.vault.read(connection), await self.directory.read(connection)
            # From here to the end without a pause: no value may go out before its lane is known, and who sees the change
            # sees the gateway ready.
            if revision != self._revision:
                self.vault.use(tokens)
                self.directory.use(callers)
                self.dispatcher.know(self.vault.tokens)
                self._revision = revision
            self._fresh = True

    async def heed_changes(self) -> None:
        """Refresh. While that fails the gateway goes on with what it knows and is not ready; `keep_fresh` tries again."""
        try:
            await self.refresh()
        except Exception:
            # The outermost edge of a task, or of a change that is made: whatever fails, it goes on with what is known.
            self._fresh = False
            log.exception("tokens and callers can't be read; going on with those known")

    async def keep_fresh(self) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self.heed_changes()


@asynccontextmanager
async def _open_house(settings: Settings, catalogue: Catalogue, hangup: asyncio.Event) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        engine, keyring = await stack.enter_async_context(open_state(settings))
        if settings.config_file:
            keeper = Keeper(settings.config_file, engine, keyring, os.environ, [one.id for one in catalogue])
            await keeper.apply()
            await stack.enter_async_context(keeper.watching(hangup))
        upstream = open_upstream(str(settings.upstream_url))
        stack.push_async_callback(upstream.aclose)
        appender = Appender(engine)
        stack.push_async_callback(appender.aclose)
        writer = GroupWriter(appender)
        ticket_key = await _ticket_key(engine, keyring)
        vault, directory, audit = Vault(keyring), Directory(), AuditLog(writer)
        origins = Origins(directory, frozenset(settings.cors_origins))
        uses = await stack.enter_async_context(KeyUses(engine).kept())
        verifiers = (
            TicketVerifier(ticket_key, directory, origins, time.time),
            *await _provider(stack, settings, directory),
        )
        dispatcher = Dispatcher(
            time.monotonic,
            Carrier(vault, directory, audit, upstream),
            depth=settings.lane_depth,
            caller_depth=settings.caller_depth,
            coalesce=settings.coalesce,
        )
        house = House(engine, vault, directory, dispatcher, audit, settings.shutdown_grace)
        house.services = Services(
            gateway=Gateway(vault, audit, dispatcher, time.monotonic),
            callers=Authentication(directory, verifiers, note_use=uses.note),
            origins=origins,
            tokens=vault,
            tickets=TicketOffice(ticket_key, origins, catalogue, audit, time.time),
            refusals=house.audit,
            readiness=house,
            lanes=Supervision(vault, dispatcher, audit),
            trials=Trial(vault, dispatcher, audit, catalogue.probes, time.monotonic),
            administration=lambda by: Administration(engine, keyring, by),
            heed_changes=house.heed_changes,
            operations=frozenset(operation.id for operation in catalogue),
            default_wait=settings.default_wait,
            max_wait=settings.max_wait,
        )
        await house.refresh()
        writer.start()
        stack.push_async_callback(_close, house, writer, asyncio.create_task(house.keep_fresh()))
        yield house


async def _provider(stack: AsyncExitStack, settings: Settings, directory: Directory) -> tuple[Verifier, ...]:
    """Who can tell whose a JWT of the identity provider is, if there is one. It need not answer for the gateway to start."""
    if settings.oidc_issuer is None:
        return ()
    documents = open_documents()
    stack.push_async_callback(documents.aclose)
    keys = ProviderKeys(settings.oidc_issuer, documents)
    await stack.enter_async_context(keys.kept_fresh())
    return (IdentityProvider(settings.oidc_issuer, settings.oidc_audience, keys, directory),)


async def _ticket_key(engine: AsyncEngine, keyring: Keyring) -> TicketKey:
    async with writing(engine) as connection:
        return TicketKey(await own_key(connection, keyring, TICKET_SIGNING))


async def _close(house: House, writer: GroupWriter, refreshing: asyncio.Task[None]) -> None:
    """In the order of the promises: nothing more is sent, what is under way is awaited, everything is on record."""
    refreshing.cancel()
    house.dispatcher.close()
    await house.dispatcher.finish()
    await house.services.gateway.finish()
    house.audit.flush()
    await writer.aclose()
