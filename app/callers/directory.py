"""The callers that a running server knows, found by their credential."""

from __future__ import annotations

import hmac
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.callers.keys import GatewayKey, parse_key
from app.domain import Caller, Grant, Role
from app.errors import CredentialsInvalid, CredentialsMissing, TokenNotGranted, UpstreamTokenPresented
from app.storage.tables import caller_keys, callers, grants, tokens

__all__ = ["Directory"]

BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE | re.ASCII)
JWT_FORM = re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]*", re.ASCII)
NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class _Held:
    sha256: bytes
    caller: Caller


DirectoryContents = dict[str, _Held]
"""The callers of one snapshot, by their keys' IDs."""


class Directory:
    """The callers as of the last `use`."""

    def __init__(self) -> None:
        self._by_key: dict[str, _Held] = {}

    async def load(self, connection: AsyncConnection) -> None:
        """Read all callers, keys and grants, and use them."""
        self.use(await self.read(connection))

    async def read(self, connection: AsyncConnection) -> DirectoryContents:
        """Read all callers, keys and grants, on this snapshot of the database, without using them yet."""
        granted = await _grants(connection)
        query = select(callers, caller_keys.c.id.label("key_id"), caller_keys.c.sha256).join(caller_keys)
        by_key: dict[str, _Held] = {}
        for row in (await connection.execute(query)).mappings():
            caller = Caller(
                id=row["id"],
                name=row["name"],
                credential_id=row["key_id"],
                grants=granted.get(row["id"], ()),
                default_token_id=row["default_token_id"],
                role=Role(row["role"]) if row["role"] else None,
                weight=row["weight"],
                rate=row["rate"],
            )
            by_key[row["key_id"]] = _Held(row["sha256"], caller)
        return by_key

    def use(self, contents: DirectoryContents) -> None:
        """From now on the callers are these."""
        self._by_key = contents

    def require(self, caller: Caller, token_id: str, operation: str) -> None:
        """Make sure that what was allowed when the call came in still is, before it is sent.

        Raises:
            CredentialsInvalid: the credential was withdrawn.
            TokenNotGranted: the grant was.
        """
        held = self._by_key.get(caller.credential_id)
        if held is None:
            detail = "the credential was withdrawn while the call waited; nothing was sent"
            raise CredentialsInvalid(detail)
        grant = held.caller.by_token.get(token_id)
        if grant is None or not grant.covers(operation):
            detail = "the grant was taken back while the call waited; nothing was sent"
            raise TokenNotGranted(detail)

    def authenticate(self, authorization: Sequence[str], x_api_token: Sequence[str]) -> Caller:
        """The caller that a request's credential headers prove.

        Args:
            authorization: every value of the header `Authorization`.
            x_api_token: every value of the header `X-API-TOKEN`.

        Raises:
            CredentialsMissing, CredentialsInvalid
            UpstreamTokenPresented: `X-API-TOKEN` holds what is no credential of the gateway's.
        """
        tokens_given = [value for value in x_api_token if value]
        if any(parse_key(value) is None and not JWT_FORM.fullmatch(value) for value in tokens_given):
            detail = "X-API-TOKEN held no gateway credential; callers never send a Flxpoint token here"
            raise UpstreamTokenPresented(detail)
        presented = {_bearer(value) for value in authorization} | set(tokens_given)
        if not presented:
            detail = "give a gateway key as `Authorization: Bearer <key>` or in X-API-TOKEN"
            raise CredentialsMissing(detail)
        key = parse_key(presented.pop())
        if presented or key is None:
            raise _invalid()
        return self._prove(key)

    def _prove(self, key: GatewayKey) -> Caller:
        held = self._by_key.get(key.id)
        proven = hmac.compare_digest(held.sha256 if held else NO_HASH, key.sha256)
        if held is None or not proven:
            raise _invalid()
        return held.caller


async def _grants(connection: AsyncConnection) -> dict[str, tuple[Grant, ...]]:
    query = select(grants, tokens.c.name).join(tokens).order_by(tokens.c.name)
    found: defaultdict[str, tuple[Grant, ...]] = defaultdict(tuple)
    for row in (await connection.execute(query)).mappings():
        operations = None if row["operations"] is None else frozenset(json.loads(row["operations"]))
        found[row["caller_id"]] += (Grant(row["token_id"], row["name"], operations),)
    return found


def _bearer(header: str) -> str:
    match = BEARER.fullmatch(header)
    return match[1] if match else ""


def _invalid() -> CredentialsInvalid:
    return CredentialsInvalid("the credential is not valid")
