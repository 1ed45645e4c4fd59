"""The rows of the callers: adding, granting, rotating keys, removing. Every function works in the transaction that it is handed."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_network

from sqlalchemy import Delete, RowMapping, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.callers.keyrows import KeyRow, add_key, keys_of, retire_keys
from app.callers.keys import GatewayKey
from app.domain import NAME_PATTERN, Role, is_origin, new_id, utc_now
from app.errors import Conflict, NotFound, ParameterInvalid
from app.settings import is_rate
from app.storage import touch_revision
from app.storage.tables import callers, grants, tokens

__all__ = ["HEAVIEST", "LONGEST_CLAIM", "CallerRow", "CallerStore", "GrantAsked", "NewCaller"]

HEAVIEST = 1_000
LONGEST_CLAIM = 256
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class GrantAsked:
    """A grant as an operator writes it: a token's name and operations, or all of them where `operations` is None."""

    token: str
    operations: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return self.token if self.operations is None else f"{self.token}:{','.join(self.operations)}"


@dataclass(frozen=True, slots=True)
class NewCaller:
    """What a caller is made of; `rate` in slowapi's syntax, None for the gateway's default.

    `networks` are those it may call from (CIDR; none: everywhere); `origins` those of its pages (exact; none: the gateway's own list);
    `claims` what a JWT of the identity provider must hold, all of it, to be this caller's (none: no JWT is).
    """

    name: str
    grants: Sequence[GrantAsked] = ()
    default_token: str | None = None
    role: Role | None = None
    weight: int = 1
    rate: str | None = None
    networks: Sequence[str] = ()
    origins: Sequence[str] = ()
    claims: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallerRow:
    """A caller as operators see it: keys without their secrets.

    `declared`: it stands in the configuration file, and is changed there only.
    """

    id: str
    name: str
    role: str | None
    weight: int
    rate: str | None
    default_token: str | None
    grants: tuple[GrantAsked, ...]
    keys: tuple[KeyRow, ...]
    created_at: str
    networks: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True
    declared: bool = False

    def as_new(self) -> NewCaller:
        """What the caller would be made of if it were made now."""
        role = Role(self.role) if self.role else None
        return NewCaller(self.name, self.grants, self.default_token, role, self.weight, self.rate, self.networks, self.origins, self.claims)


class CallerStore:
    """The callers in the database."""

    async def add(self, connection: AsyncConnection, new: NewCaller, *, expires_at: datetime | None = None) -> tuple[CallerRow, GatewayKey]:
        """Add a caller, with its grants and one key, which can be shown only now and ends at `expires_at`, if ever.

        Raises:
            ParameterInvalid: a trait isn't one, or the key would have ended already.
            Conflict: the name is in use.
            NotFound: a grant names no token.
        """
        row = await self.add_without_key(connection, new)
        key = await add_key(connection, row.id, expires_at)
        return await self.show(connection, new.name), key

    async def add_without_key(self, connection: AsyncConnection, new: NewCaller) -> CallerRow:
        """Add a caller, with its grants.

        Raises:
            ParameterInvalid, Conflict, NotFound: as `add`.
        """
        _check_new(new)
        if await self._row(connection, new.name):
            message = f"there is a caller named {new.name} already"
            raise Conflict(message)
        row = {"id": new_id(), "name": new.name, "created_at": utc_now()} | await _traits(connection, new)
        await connection.execute(insert(callers).values(row))
        for asked in new.grants:
            await self.grant(connection, new.name, asked)
        await touch_revision(connection)
        return await self.show(connection, new.name)

    async def change(self, connection: AsyncConnection, new: NewCaller) -> CallerRow:
        """Make the caller of that name what `new` says, its grants included. Its keys stay.

        Raises:
            ParameterInvalid: a trait isn't one.
            NotFound: no such caller, or a grant names no token.
        """
        _check_new(new)
        caller_id = (await self._found(connection, new.name))["id"]
        await connection.execute(update(callers).where(callers.c.id == caller_id).values(await _traits(connection, new)))
        await connection.execute(delete(grants).where(grants.c.caller_id == caller_id))
        for asked in new.grants:
            await self.grant(connection, new.name, asked)
        await touch_revision(connection)
        return await self.show(connection, new.name)

    async def set_enabled(self, connection: AsyncConnection, name: str, *, enabled: bool) -> CallerRow:
        """Let the caller call, or not, whatever its credentials.

        Raises:
            NotFound: no such caller.
        """
        return await self._set(connection, name, enabled=int(enabled))

    async def set_declared(self, connection: AsyncConnection, name: str, *, declared: bool) -> CallerRow:
        """Say whether the caller stands in the configuration file.

        Raises:
            NotFound: no such caller.
        """
        return await self._set(connection, name, declared=int(declared))

    async def grant(self, connection: AsyncConnection, name: str, asked: GrantAsked) -> CallerRow:
        """Let the caller use a token, in place of what was granted for that token before.

        Raises:
            NotFound: no such caller or token.
        """
        caller_id, token_id = (await self._found(connection, name))["id"], await _token_id(connection, asked.token)
        operations = None if asked.operations is None else json.dumps(sorted(set(asked.operations)))
        await connection.execute(_grant_of(caller_id, token_id))
        await connection.execute(insert(grants).values(caller_id=caller_id, token_id=token_id, operations=operations))
        await touch_revision(connection)
        return await self.show(connection, name)

    async def revoke(self, connection: AsyncConnection, name: str, token: str) -> CallerRow:
        """Take the grant for a token back.

        Raises:
            NotFound: no such caller or token, or no such grant.
        """
        caller_id, token_id = (await self._found(connection, name))["id"], await _token_id(connection, token)
        taken = await connection.execute(_grant_of(caller_id, token_id))
        if not taken.rowcount:
            message = f"{name} has no grant for {token}"
            raise NotFound(message)
        await connection.execute(
            update(callers).where(callers.c.id == caller_id, callers.c.default_token_id == token_id).values(default_token_id=None)
        )
        await touch_revision(connection)
        return await self.show(connection, name)

    async def granted(self, connection: AsyncConnection, token: str) -> list[CallerRow]:
        """The callers that may use a token, by name."""
        return [row for row in await self.all(connection) if any(grant.token == token for grant in row.grants)]

    async def revoke_all(self, connection: AsyncConnection, token: str) -> list[tuple[CallerRow, CallerRow]]:
        """Take every grant for a token back; gives each caller that had one as it was and as it is."""
        return [(row, await self.revoke(connection, row.name, token)) for row in await self.granted(connection, token)]

    async def rotate_key(
        self, connection: AsyncConnection, name: str, *, grace: float = 0.0, expires_at: datetime | None = None
    ) -> tuple[CallerRow, GatewayKey]:
        """Give the caller a new key, which can be shown only now and ends at `expires_at`, if ever.

        Its keys so far end after `grace` seconds, or sooner where they would have.

        Raises:
            NotFound: no such caller.
            ParameterInvalid: the grace or the end can't be.
        """
        caller_id = (await self._found(connection, name))["id"]
        await retire_keys(connection, caller_id, grace)
        key = await add_key(connection, caller_id, expires_at)
        await touch_revision(connection)
        return await self.show(connection, name), key

    async def remove(self, connection: AsyncConnection, name: str) -> CallerRow:
        """Remove the caller with its keys and grants.

        Raises:
            NotFound: no such caller.
        """
        row = await self.show(connection, name)
        await connection.execute(delete(callers).where(callers.c.id == row.id))
        await touch_revision(connection)
        return row

    async def show(self, connection: AsyncConnection, name: str) -> CallerRow:
        """One caller.

        Raises:
            NotFound: no such caller.
        """
        row = await self._found(connection, name)
        granted, keys = await _granted(connection, row["id"]), await keys_of(connection, row["id"])
        return _read(row, granted.get(row["id"], ()), keys.get(row["id"], ()))

    async def all(self, connection: AsyncConnection) -> list[CallerRow]:
        """Every caller, by name."""
        rows = (await connection.execute(select(callers).order_by(callers.c.name))).mappings().all()
        granted, keys = await _granted(connection), await keys_of(connection)
        return [_read(row, granted.get(row["id"], ()), keys.get(row["id"], ())) for row in rows]

    async def _set(self, connection: AsyncConnection, name: str, **columns: int) -> CallerRow:
        caller_id = (await self._found(connection, name))["id"]
        await connection.execute(update(callers).where(callers.c.id == caller_id).values(columns))
        await touch_revision(connection)
        return await self.show(connection, name)

    async def _row(self, connection: AsyncConnection, name: str) -> RowMapping | None:
        return (await connection.execute(select(callers).where(callers.c.name == name))).mappings().one_or_none()

    async def _found(self, connection: AsyncConnection, name: str) -> RowMapping:
        row = await self._row(connection, name)
        if row is None:
            # The name isn't said back: what was given for one may be a secret.
            message = "there is no caller of that name"
            raise NotFound(message)
        return row


async def _granted(connection: AsyncConnection, caller_id: str | None = None) -> dict[str, tuple[RowMapping, ...]]:
    """The grants with their tokens' names, of one caller or all, by the callers' IDs."""
    query = select(tokens.c.id, tokens.c.name, grants.c.operations, grants.c.caller_id).join(grants).order_by(tokens.c.name)
    found: defaultdict[str, tuple[RowMapping, ...]] = defaultdict(tuple)
    for row in (await connection.execute(query if caller_id is None else query.where(grants.c.caller_id == caller_id))).mappings():
        found[row["caller_id"]] += (row,)
    return found


def _read(row: RowMapping, granted: Sequence[RowMapping], keys: tuple[KeyRow, ...]) -> CallerRow:
    return CallerRow(
        id=row["id"],
        name=row["name"],
        role=row["role"],
        weight=row["weight"],
        rate=row["rate"],
        default_token=next((one["name"] for one in granted if one["id"] == row["default_token_id"]), None),
        grants=tuple(GrantAsked(one["name"], _operations(one["operations"])) for one in granted),
        keys=keys,
        created_at=row["created_at"],
        networks=tuple(json.loads(row["networks"])),
        origins=tuple(json.loads(row["origins"])),
        claims=json.loads(row["claims"]),
        enabled=bool(row["enabled"]),
        declared=bool(row["declared"]),
    )


async def _token_id(connection: AsyncConnection, name: str) -> str:
    found = (await connection.execute(select(tokens.c.id).where(tokens.c.name == name))).scalar_one_or_none()
    if found is None:
        message = "there is no token of that name"
        raise NotFound(message)
    return str(found)


async def _traits(connection: AsyncConnection, new: NewCaller) -> dict[str, object]:
    """The columns that `new` fills, but for its name."""
    return {
        "role": new.role,
        "weight": new.weight,
        "rate": new.rate,
        "default_token_id": None if new.default_token is None else await _token_id(connection, new.default_token),
        "networks": json.dumps([str(ip_network(one)) for one in new.networks]),
        "origins": json.dumps(list(new.origins)),
        "claims": json.dumps(dict(new.claims), sort_keys=True),
    }


def _grant_of(caller_id: str, token_id: str) -> Delete:
    return delete(grants).where(grants.c.caller_id == caller_id, grants.c.token_id == token_id)


def _operations(stored: str | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(json.loads(stored))


def _check_new(new: NewCaller) -> None:
    granted = {asked.token for asked in new.grants}
    checks = {
        "a caller's name has 1 to 64 letters, digits, dots, dashes and underscores": NAME_PATTERN.fullmatch(new.name),
        f"a caller's weight is 1 to {HEAVIEST}": 1 <= new.weight <= HEAVIEST,
        "a caller's rate is one limit of at least one, such as 100/second": new.rate is None or is_rate(new.rate),
        "the default token must be among the grants": new.default_token is None or new.default_token in granted,
        "a caller's network is written as 10.0.0.0/8, without bits beyond the mask": all(map(_is_network, new.networks)),
        "an origin is written as https://shop.example, in small letters, with a port only where it isn't the scheme's own": all(
            map(is_origin, new.origins)
        ),
        f"a claim has a name and a value of 1 to {LONGEST_CLAIM} characters": all(
            0 < len(text) <= LONGEST_CLAIM for claim in new.claims.items() for text in claim
        ),
        "a claim is written in Unicode": not any(SURROGATE.search(text) for claim in new.claims.items() for text in claim),
    }
    for message, holds in checks.items():
        if not holds:
            raise ParameterInvalid(message)


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True
