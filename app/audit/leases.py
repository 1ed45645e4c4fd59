"""Leases: a process that lives renews the lease of its chain; a chain whose lease has run out is claimed by another, which ends it.

A claim is a lease too. Whoever holds it renews it in the transactions of what it writes, and only if it is still its own, so that of two
who claim a chain one writes, and where the one dies the other goes on. Whether one has run out is told by the clock that all share.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from app.audit.storing import Execute
from app.domain import utc_now
from app.storage import Executor, shared_time

__all__ = [
    "HEARTBEAT_SECONDS",
    "LEASE_SECONDS",
    "Claim",
    "claim_next",
    "end_other_leases",
    "give_up_lease",
    "is_closed",
    "lease_end",
    "renew_lease",
]

LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 5.0


def lease_end(executor: Executor) -> str:
    """When a lease that is renewed now runs out."""
    return _from_now(executor, LEASE_SECONDS)


def renew_lease(executor: Executor, chain: str, lease: str, *, held: Collection[str], open_since: int | None) -> bool:
    """The chain's process lives; gives whether there is such a chain that another process has neither claimed nor ended.

    Args:
        executor: writes to the database.
        chain: the chain's ID.
        lease: the new one.
        held: the leases that the process may have written there: several, where it isn't known which came to be written.
        open_since: the number of its oldest intent without an outcome, None where that isn't known.
    """
    query = (
        "UPDATE audit_chains SET lease_until = ?, open_since = coalesce(?, open_since) "
        "WHERE id = ? AND closed_at IS NULL AND lease_until IN (SELECT value FROM json_each(?))"
    )
    return executor.execute(query, (lease, open_since, chain, json.dumps(list(held)))).rowcount == 1


def is_closed(execute: Execute, chain: str) -> bool:
    """Whether the chain was ended, so that nothing may be written to it any more."""
    return execute("SELECT 1 FROM audit_chains WHERE id = ? AND closed_at IS NOT NULL", (chain,)).fetchone() is not None


def give_up_lease(executor: Executor, chain: str, open_since: int | None) -> None:
    """The chain's process ends. Where intents have no outcome yet, from the number `open_since` on, another may close them at once."""
    now = _from_now(executor)
    if open_since is None:
        executor.execute("UPDATE audit_chains SET lease_until = NULL, closed_at = ? WHERE id = ?", (now, chain))
    else:
        executor.execute("UPDATE audit_chains SET lease_until = ?, open_since = ? WHERE id = ?", (now, open_since, chain))


def end_other_leases(executor: Executor, own: str) -> None:
    """No process lives but this one: whatever else has a lease is dead."""
    now = _from_now(executor)
    executor.execute("UPDATE audit_chains SET lease_until = ? WHERE closed_at IS NULL AND lease_until > ? AND id <> ?", (now, now, own))


@dataclass(frozen=True, slots=True)
class Claim:
    """A dead process's chain, to be ended by whoever holds this; `open_since` is the number of the first record that matters."""

    chain: str
    lease: str
    open_since: int

    def renewed(self, executor: Executor, open_since: int) -> Claim:
        """The claim as it will be, further on; it holds once `take` succeeded with it."""
        return Claim(self.chain, lease_end(executor), open_since)

    def take(self, execute: Execute, before: Claim) -> bool:
        """Put this claim in the place of the one before; False where another has put its own there."""
        query = "UPDATE audit_chains SET lease_until = ?, open_since = ? WHERE id = ? AND lease_until = ? AND closed_at IS NULL"
        return execute(query, (self.lease, self.open_since, self.chain, before.lease)).rowcount == 1

    def close(self, execute: Execute) -> bool:
        """Mark the chain as ended; False where the claim is another's meanwhile. The time of that is only told."""
        query = "UPDATE audit_chains SET lease_until = NULL, closed_at = ? WHERE id = ? AND lease_until = ? AND closed_at IS NULL"
        return execute(query, (utc_now(), self.chain, self.lease)).rowcount == 1


def claim_next(executor: Executor, own: str) -> Claim | None:
    """Claim a chain whose lease has run out; None where there is none. One without a lease belongs to no process, and is never claimed."""
    query = (
        "SELECT id, lease_until, open_since FROM audit_chains "
        "WHERE closed_at IS NULL AND lease_until <= ? AND id <> ? ORDER BY lease_until LIMIT 1"
    )
    while found := executor.execute(query, (_from_now(executor), own)).fetchone():
        expired = Claim(found[0], found[1], found[2] or 0)
        claim = expired.renewed(executor, expired.open_since)
        if claim.take(executor.execute, expired):
            return claim
    return None


def _from_now(executor: Executor, seconds: float = 0.0) -> str:
    return (shared_time(executor) + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
