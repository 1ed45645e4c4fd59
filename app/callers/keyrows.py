"""The rows of the callers' keys. Every function works in the transaction that it is handed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.callers.keys import GatewayKey, make_key
from app.domain import utc_now
from app.errors import ParameterInvalid
from app.storage.tables import caller_keys

__all__ = ["KeyRow", "add_key", "keep_uses", "keys_of", "retire_keys"]

LONGEST_GRACE = 366 * 86_400


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A caller's key as operators see it; times in UTC, ISO 8601, None where there is none."""

    id: str
    created_at: str
    expires_at: str | None = None
    last_used_at: str | None = None


async def add_key(connection: AsyncConnection, caller_id: str, expires_at: datetime | None) -> GatewayKey:
    """Add a new key, which can be shown only now.

    Raises:
        ParameterInvalid: it would have ended already.
    """
    if expires_at is not None and expires_at <= datetime.now(UTC):
        detail = "a key's end must be in the future"
        raise ParameterInvalid(detail)
    key = make_key()
    end = None if expires_at is None else _stored(expires_at)
    row = {"id": key.id, "caller_id": caller_id, "sha256": key.sha256, "created_at": utc_now(), "expires_at": end}
    await connection.execute(insert(caller_keys).values(row))
    return key


async def retire_keys(connection: AsyncConnection, caller_id: str, grace: float) -> None:
    """Let the caller's keys end after `grace` seconds, or sooner where that was said before. What has ended is removed.

    Raises:
        ParameterInvalid: the grace is negative or longer than a year.
    """
    if not 0 <= grace <= LONGEST_GRACE:
        detail = "the grace of old keys is 0 to 366 days"
        raise ParameterInvalid(detail)
    end = _stored(datetime.now(UTC) + timedelta(seconds=grace))
    own = caller_keys.c.caller_id == caller_id
    later = or_(caller_keys.c.expires_at.is_(None), caller_keys.c.expires_at > end)
    await connection.execute(update(caller_keys).where(own, later).values(expires_at=end))
    await connection.execute(delete(caller_keys).where(own, caller_keys.c.expires_at <= utc_now()))


async def keys_of(connection: AsyncConnection, caller_id: str | None = None) -> dict[str, tuple[KeyRow, ...]]:
    """The keys of one caller or all, oldest first, by the callers' IDs."""
    query = select(caller_keys).order_by(caller_keys.c.created_at)
    found: defaultdict[str, tuple[KeyRow, ...]] = defaultdict(tuple)
    for row in (await connection.execute(query if caller_id is None else query.where(caller_keys.c.caller_id == caller_id))).mappings():
        found[row["caller_id"]] += (KeyRow(row["id"], row["created_at"], row["expires_at"], row["last_used_at"]),)
    return found


async def keep_uses(connection: AsyncConnection, uses: Mapping[str, float]) -> None:
    """Write down when keys were used last: seconds since the epoch, by the keys' IDs. No server need read the callers again for that."""
    later = or_(caller_keys.c.last_used_at.is_(None), caller_keys.c.last_used_at < bindparam("at"))
    statement = update(caller_keys).where(caller_keys.c.id == bindparam("key"), later).values(last_used_at=bindparam("at"))
    await connection.execute(statement, [{"key": key, "at": _stored(datetime.fromtimestamp(at, UTC))} for key, at in uses.items()])


def _stored(moment: datetime) -> str:
    """As every row has it, so that texts compare as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
