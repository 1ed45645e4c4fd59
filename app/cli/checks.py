"""What `check` looks at: everything that a start needs, done on a copy in memory where it would change something."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.callers import CallerStore
from app.catalogue import load_catalogue
from app.cli.certificate import Certificate
from app.cli.control import control_path
from app.cli.finding import Finding, Said, Status
from app.cli.record_checks import RECORD_CHECKS, nearest
from app.declaration import Sources, apply, read_declaration
from app.errors import StartRefused
from app.opening import may_make_key
from app.settings import Settings, unknown_variables
from app.storage import reading, rehearsed, rehearsed_server
from app.storage.migrate import known_schemas, newest_schema, schema_of, upgrade
from app.upstream import NotReached, reach
from app.vault import Keyring, TokenStore, check_sealed, load_keyring

__all__ = ["findings"]

RENEWED_BEFORE = timedelta(days=7)


async def findings(settings: Settings, *, offline: bool) -> AsyncIterator[Finding]:
    """Look at everything, one after the other. Nothing is changed or made, and no request is sent.

    Args:
        settings: those that `serve` would take.
        offline: look at nothing on the network.
    """
    async with AsyncExitStack() as stack:
        checks = _Checks(settings, stack, offline=offline)
        for name, check in checks.all().items():
            yield await _finding(name, check)


async def _finding(name: str, check: Callable[[], Awaitable[Said]]) -> Finding:
    try:
        return Finding(name, *(await check()))
    except StartRefused as error:
        return Finding(name, Status.FAILED, str(error))
    except SQLAlchemyError as error:
        return Finding(name, Status.FAILED, f"GATEWAY_DATABASE_URL: the database can't be used: {error.__cause__ or error}")
    except NotReached as error:
        return Finding(name, Status.FAILED, str(error))


class _Checks:
    """The checks, in an order in which each finds what those before it have opened."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, *, offline: bool) -> None:
        self._settings = settings
        self._stack = stack
        self._offline = offline
        self._operations: list[str] = []
        self._engine: AsyncEngine | None = None
        self._keyring: Keyring | None = None

    def all(self) -> dict[str, Callable[[], Awaitable[Said]]]:
        return {
            "settings": self._variables,
            "catalogue": self._catalogue,
            "state folder": self._state_folder,
            "database": self._database,
            "master keys": self._master_keys,
            "configuration file": self._configuration_file,
            **{name: partial(self._of_the_record, check) for name, check in RECORD_CHECKS.items()},
            "certificate": self._certificate,
            "address": self._address,
            "upstream": lambda: self._reached(str(self._settings.upstream_url)),
            "identity provider": lambda: self._reached(str(self._settings.oidc_issuer or "")),
        }

    async def _variables(self) -> Said:
        unknown = unknown_variables(os.environ)
        if unknown:
            return Status.WARNING, f"these variables name no setting and are ignored: {', '.join(unknown)}"
        return Status.OK, "every variable names a setting"

    async def _catalogue(self) -> Said:
        self._operations = [one.id for one in load_catalogue(self._settings.catalogue)]
        return Status.OK, f"operations: {', '.join(self._operations)}"

    async def _state_folder(self) -> Said:
        return _writable(self._settings.state_dir)

    async def _database(self) -> Said:
        return await (self._file() if self._settings.is_embedded else self._server())

    async def _server(self) -> Said:
        served = await self._stack.enter_async_context(rehearsed_server(self._settings.database))
        await upgrade(served.engine)
        self._engine = served.engine
        if served.fault:
            return Status.FAILED, f"GATEWAY_DATABASE_URL: {served.fault}"
        return _schema_said(served.schema, "is empty")

    async def _file(self) -> Said:
        path = self._settings.database_path
        engine = await self._stack.enter_async_context(rehearsed(path))
        found = await schema_of(engine)
        await upgrade(engine)
        self._engine = engine
        if not path.exists():
            return Status.OK, f"none yet; would be made with schema {newest_schema()}"
        if not os.access(path, os.R_OK | os.W_OK):
            return Status.FAILED, f"GATEWAY_DATABASE_URL: {path} can't be written"
        return _schema_said(found, "has schema none")

    async def _master_keys(self) -> Said:
        if self._engine is None:
            return Status.SKIPPED, "the database comes first"
        given = self._settings.master_keys.get_secret_value() if self._settings.master_keys else None
        path = self._settings.keys_file
        if given is None and not path.exists() and await may_make_key(self._engine, self._settings):
            self._keyring = Keyring({"rehearsal": secrets.token_bytes(32)})
            return Status.OK, f"none yet; one would be made at {path}"
        keyring = load_keyring(given, path, may_make=False)
        async with reading(self._engine) as connection:
            await check_sealed(connection, keyring)
            held = await TokenStore(keyring).all(connection)
        self._keyring = keyring
        return Status.OK, f"open every token, {len(held)} in all"

    async def _configuration_file(self) -> Said:
        if self._engine is None or self._keyring is None or not self._operations:
            return Status.SKIPPED, "catalogue, database and master keys come first"
        path = self._settings.config_file
        if path is None:
            return await _without_file(self._engine, self._keyring)
        applied = await apply(self._engine, self._keyring, read_declaration(path, Sources(), os.environ, self._operations))
        changes = ", ".join(f"{name} {count}" for name, count in applied.changes.items())
        return Status.OK, f"declares {applied.tokens} tokens and {applied.callers} callers; would change: {changes or 'nothing'}"

    async def _of_the_record(self, check: Callable[[Settings], Said]) -> Said:
        return check(self._settings)

    async def _certificate(self) -> Said:
        cert, key = self._settings.tls_cert, self._settings.tls_key
        if cert is None or key is None:
            return Status.OK, "none; HTTP is spoken"
        expires = Certificate(cert, key).expires
        soon = expires - RENEWED_BEFORE < datetime.now(UTC)
        return Status.WARNING if soon else Status.OK, f"{cert} can be served with; it expires {expires:%Y-%m-%d %H:%M} UTC"

    async def _address(self) -> Said:
        host, port = self._settings.host, self._settings.port
        try:
            _bind(host, port)
        except OSError as error:
            if _serves(self._settings.state_dir):
                return Status.OK, f"{host}:{port} is in use; a gateway serves from this state folder"
            return Status.FAILED, f"GATEWAY_PORT: {host}:{port} can't be listened on: {error.strerror}"
        return Status.OK, f"{host}:{port} is free" if port else f"a free port of {host}"

    async def _reached(self, url: str) -> Said:
        if not url:
            return Status.OK, "none"
        return (Status.SKIPPED, "offline") if self._offline else (Status.OK, await reach(url))


def _schema_said(found: str | None, empty: str) -> Said:
    if found is not None and found not in known_schemas():
        return Status.WARNING, f"has schema {found}, a newer version's, which this one may use; its own is {newest_schema()}"
    if found != newest_schema():
        return Status.WARNING, f"{f'has schema {found}' if found else empty}; the start would bring it to {newest_schema()}"
    return Status.OK, f"has schema {found}, the newest"


async def _without_file(engine: AsyncEngine, keyring: Keyring) -> Said:
    """Without a file, what one declared earlier goes on, and nobody may change it."""
    async with reading(engine) as connection:
        left = [row.token.name for row in await TokenStore(keyring).all(connection) if row.declared]
        left += [row.name for row in await CallerStore().all(connection) if row.declared]
    if left:
        return Status.WARNING, f"none, though one declared these, which only a file can change: {', '.join(left)}"
    return Status.OK, "none"


def _writable(folder: Path) -> Said:
    there = nearest(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return (
            Status.FAILED,
            f"GATEWAY_STATE_DIR: {folder} can't be used: {there} {'can not be written' if there.is_dir() else 'is no folder'}",
        )
    return Status.OK, f"{folder} {'can be written' if there == folder.absolute() else 'would be made'}"


def _bind(host: str, port: int) -> None:
    """Bind as a server does, without listening, and let go.

    Raises:
        OSError: the address can't be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, kind, protocol) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)


def _serves(state_dir: Path) -> bool:
    """Whether a server of this state folder takes commands. Its lock isn't tried: a server that starts might find it taken."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        try:
            knocking.connect(os.fspath(control_path(state_dir)))
        except OSError:
            return False
    return True
