"""The callers that a running server knows, found by their keys or by name."""

from __future__ import annotations

import hmac
import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import ip_network

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.callers.basis import basis_of_claims, basis_of_key
from app.callers.keys import GatewayKey
from app.callers.networks import is_within
from app.callers.presented import invalid
from app.domain import Caller, CredentialKind, Grant, Role
from app.errors import CredentialsInvalid, TokenNotGranted
from app.storage.tables import caller_keys, callers, grants, tokens

__all__ = ["Directory", "DirectoryContents", "Known"]

NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class Known:
    """A caller, and the claims that make a JWT of the identity provider its own; without any, none is."""

    caller: Caller
    claims: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Held:
    sha256: bytes
    caller: Caller


@dataclass(frozen=True, slots=True)
class DirectoryContents:
    """The enabled callers of one snapshot: by their keys' IDs, by their own, and by what their credentials may rest on."""

    by_key: dict[str, _Held] = field(default_factory=dict)
    by_id: dict[str, Known] = field(default_factory=dict)
    known: tuple[Known, ...] = field(init=False)
    by_basis: dict[str, Caller] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", tuple(self.by_id.values()))
        proven = [*(known.caller for known in self.known), *(held.caller for held in self.by_key.values())]
        object.__setattr__(self, "by_basis", {caller.basis: caller for caller in proven})


class Directory:
    """The callers as of the last `use`; `origins` are those of all their pages.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._contents = DirectoryContents()
        self.origins: frozenset[str] = frozenset()

    async def load(self, connection: AsyncConnection) -> None:
        """Read all callers, keys and grants, and use them."""
        self.use(await self.read(connection))

    async def read(self, connection: AsyncConnection) -> DirectoryContents:
        """Read all callers, keys and grants, on this snapshot of the database, without using them yet."""
        granted = await _grants(connection)
        rows = (await connection.execute(select(callers).where(callers.c.enabled == 1))).mappings().all()
        by_id = {row["id"]: _known(row, granted.get(row["id"], ())) for row in rows}
        keys = (await connection.execute(select(caller_keys))).mappings().all()
        by_key = {row["id"]: _held(row, by_id[row["caller_id"]].caller) for row in keys if row["caller_id"] in by_id}
        return DirectoryContents(by_key, by_id)

    def use(self, contents: DirectoryContents) -> None:
        """From now on the callers are these."""
        self._contents = contents
        self.origins = frozenset().union(*(known.caller.origins for known in contents.by_id.values()))

    @property
    def known(self) -> tuple[Known, ...]:
        """Every caller that may call, with its claims; the same object until the next `use`."""
        return self._contents.known

    def resting_on(self, basis: str) -> Caller | None:
        """The caller of the key, or with the claims, that have this mark, if it may call and the key hasn't ended."""
        caller = self._contents.by_basis.get(basis)
        return None if caller is None or self._has_ended(caller) else caller

    def lets_in(self, caller: Caller, address: str | None) -> bool:
        """Whether what a caller proved itself with would be let in now, from that address."""
        now = self._still(caller, address)
        return now is not None and not self._has_ended(now) and not self._has_ended(caller)

    def require(self, caller: Caller, token_id: str, operation: str, address: str | None) -> None:
        """Make sure that what was allowed when the call came in still is, before it is sent.

        Args:
            caller: as the call's credential proved it.
            token_id: the token that the call goes with.
            operation: what it asks for.
            address: where it came from.

        Raises:
            CredentialsInvalid: the credential was withdrawn, or its caller, or the network or the page that it came from.
            TokenNotGranted: the grant was.
        """
        now = self._still(caller, address)
        if now is None:
            detail = "the credential was withdrawn while the call waited; nothing was sent"
            raise CredentialsInvalid(detail)
        grant = now.by_token.get(token_id)
        if grant is None or not grant.covers(operation):
            detail = "the grant was taken back while the call waited; nothing was sent"
            raise TokenNotGranted(detail)

    def prove(self, key: GatewayKey) -> Caller:
        """The caller whose key this is. One hash and one comparison, whatever is wrong with the key.

        Raises:
            CredentialsInvalid
        """
        held = self._contents.by_key.get(key.id)
        proven = hmac.compare_digest(held.sha256 if held else NO_HASH, key.sha256)
        if held is None or not proven or self._has_ended(held.caller):
            raise invalid()
        return held.caller

    def _has_ended(self, caller: Caller) -> bool:
        return caller.expires_at is not None and caller.expires_at <= self._clock()

    def _still(self, caller: Caller, address: str | None) -> Caller | None:
        """The caller as it is now, if its credential would be let in. One that ended by its own time meanwhile was let in before."""
        now = self._contents.by_basis.get(caller.basis)
        return now if now and is_within(address, now.networks) and _may_have_page(now, caller) else None


def _may_have_page(now: Caller, caller: Caller) -> bool:
    """Whether the caller, as it is now, may have the page that its ticket was made for; without a ticket there is none."""
    if caller.credential is not CredentialKind.TICKET:
        return True
    return caller.origins <= now.origins if now.origins else caller.has_listed_origin


def _known(row: RowMapping, granted: tuple[Grant, ...]) -> Known:
    claims = json.loads(row["claims"])
    caller = Caller(
        id=row["id"],
        name=row["name"],
        credential_id="",
        grants=granted,
        default_token_id=row["default_token_id"],
        role=Role(row["role"]) if row["role"] else None,
        weight=row["weight"],
        rate=row["rate"],
        networks=tuple(ip_network(one) for one in json.loads(row["networks"])),
        origins=frozenset(json.loads(row["origins"])),
        basis=basis_of_claims(row["id"], claims),
    )
    return Known(caller, claims)


def _held(row: RowMapping, caller: Caller) -> _Held:
    end = datetime.fromisoformat(row["expires_at"]).timestamp() if row["expires_at"] else None
    basis = basis_of_key(caller.id, row["id"], row["sha256"])
    return _Held(row["sha256"], replace(caller, credential_id=row["id"], expires_at=end, basis=basis))


async def _grants(connection: AsyncConnection) -> dict[str, tuple[Grant, ...]]:
    query = select(grants, tokens.c.name).join(tokens).order_by(tokens.c.name)
    found: defaultdict[str, tuple[Grant, ...]] = defaultdict(tuple)
    for row in (await connection.execute(query)).mappings():
        operations = None if row["operations"] is None else frozenset(json.loads(row["operations"]))
        found[row["caller_id"]] += (Grant(row["token_id"], row["name"], operations),)
    return found
