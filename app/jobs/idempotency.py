"""What a repeated request is given: the keys that callers mark their requests with, and what each stands for.

The header is that of the IETF's draft-ietf-httpapi-idempotency-key-header-07. Every function works in the transaction that it is handed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import PROBLEMS, IdempotencyMismatch, UpstreamRefused
from app.storage import shared_now
from app.storage.tables import idempotency

__all__ = ["KeptAnswer", "Key", "KeyStore", "Use", "is_kept", "left_on_record", "oldest"]

LIFETIME = timedelta(hours=24)
SERVER_ERROR = 500
TOO_MANY_REQUESTS = 429
LEFT_BEHIND = "the process that had sent this ended; this is what it left on record"


@dataclass(frozen=True, slots=True)
class Key:
    """A caller's key, by its SHA-256, and that of what the request asks for; both in hexadecimal."""

    caller_id: str
    sha256: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer to be given again: its status, the headers that matter, and its body."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Use:
    """What a key stands for: a job, or a call, with its answer once that is kept.

    `uncertain`: an earlier attempt at the call may have done its work, or a part; how it ended isn't known. `age`: how long it has stood
    for it, in seconds.
    """

    call_id: str | None = None
    job_id: str | None = None
    uncertain: bool = False
    answer: KeptAnswer | None = None
    age: float = field(default=0.0, compare=False)


class KeyStore:
    """The keys in use."""

    async def use(self, connection: AsyncConnection, key: Key) -> Use | None:
        """What a key stands for; None: nothing, or what was asked for more than 24 hours ago.

        Raises:
            IdempotencyMismatch: it stands for another request.
        """
        query = select(idempotency).where(*_place(key), idempotency.c.created_at >= oldest())
        row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            return None
        if row["fingerprint"] != key.fingerprint:
            message = "the key in Idempotency-Key was used for another request within the last 24 hours"
            raise IdempotencyMismatch(message)
        answer = KeptAnswer(**json.loads(row["answer"])) if row["answer"] else None
        age = await shared_now(connection) - datetime.fromisoformat(row["created_at"])
        return Use(row["call_id"], row["job_id"], bool(row["uncertain"]), answer, age.total_seconds())

    async def take(self, connection: AsyncConnection, key: Key, use: Use) -> None:
        """From now on, for 24 hours, the key stands for this."""
        await connection.execute(delete(idempotency).where(*_place(key)))
        now = (await shared_now(connection)).isoformat(timespec="microseconds")
        row = {"caller_id": key.caller_id, "key_sha256": key.sha256, "fingerprint": key.fingerprint, "created_at": now}
        found = {"call_id": use.call_id, "job_id": use.job_id, "uncertain": int(use.uncertain)}
        await connection.execute(insert(idempotency).values(row | found))

    async def keep(self, connection: AsyncConnection, key: Key, use: Use, answer: KeptAnswer) -> None:
        """Keep the answer to what the key stands for, if it still stands for that."""
        text = json.dumps({"status": answer.status, "headers": dict(answer.headers), "body": answer.body})
        await connection.execute(update(idempotency).where(*_place(key), *_same(use)).values(answer=text))

    async def forget(self, connection: AsyncConnection, key: Key, use: Use) -> None:
        """The key stands for nothing: what it stood for has done nothing."""
        await connection.execute(delete(idempotency).where(*_place(key), *_same(use)))

    async def sweep(self, connection: AsyncConnection, *, most: int) -> int:
        """Remove keys whose 24 hours are over, at most so many; gives how many went."""
        place = (idempotency.c.caller_id, idempotency.c.key_sha256)
        old = select(*place).where(idempotency.c.created_at < oldest()).limit(most)
        return (await connection.execute(delete(idempotency).where(tuple_(*place).in_(old)))).rowcount


def oldest() -> str:
    """When a request was made, at the earliest, whose key still stands for it; UTC, ISO 8601."""
    return (datetime.now(UTC) - LIFETIME).isoformat(timespec="microseconds")


def is_kept(status: int, *, attempts: int, uncertain: bool) -> bool:
    """Whether an answer is the one for all repetitions of its request.

    What Flxpoint did, may have done or refused is. What was never sent isn't, nor a failure after which it is certain that nothing was
    done: the same request may succeed another time.
    """
    return uncertain or (attempts > 0 and status < SERVER_ERROR and status != TOO_MANY_REQUESTS)


def left_on_record(outcome: Mapping[str, Any], *, uncertain: bool) -> KeptAnswer | None:
    """The answer that a call gave or would have given, by its outcome on record; None where it isn't one for all repetitions.

    `uncertain`: so was an earlier attempt.
    """
    code = outcome["code"]
    status = _status_of(code)
    attempts = outcome.get("attempts", 0)
    if status is None or not is_kept(status, attempts=attempts, uncertain=outcome["uncertain"]):
        return None
    headers = {"Gateway-Token": outcome["token"], "Gateway-Attempts": str(attempts)}
    if uncertain or outcome["uncertain"]:
        headers["Gateway-Uncertain"] = "true"
    if code == "ok":
        ids = ",".join(outcome.get("linked_ids", ()))
        return KeptAnswer(status, headers | {"Content-Type": "application/json"}, f"[{ids}]")
    problem = {
        "type": f"/gateway/problems/{code}",
        "title": PROBLEMS.get(code, UpstreamRefused).title(),
        "status": status,
        "detail": LEFT_BEHIND,
        "instance": outcome["request_id"],
    }
    return KeptAnswer(status, headers | {"Content-Type": "application/problem+json"}, json.dumps(problem))


def _status_of(code: str) -> int | None:
    """The status of the answer that has this code on record; None where there was no answer."""
    if code == "ok":
        return 200
    if code in PROBLEMS:
        return PROBLEMS[code].status
    number = code.removeprefix("upstream-")
    return int(number) if number.isdecimal() else None


def _place(key: Key) -> tuple[ColumnElement[bool], ...]:
    return idempotency.c.caller_id == key.caller_id, idempotency.c.key_sha256 == key.sha256


def _same(use: Use) -> tuple[ColumnElement[bool], ...]:
    return idempotency.c.call_id.is_not_distinct_from(use.call_id), idempotency.c.job_id.is_not_distinct_from(use.job_id)
