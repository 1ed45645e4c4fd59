"""Removing the beginning of a chain: first a signed tombstone, then, bit by bit, the records that it stands for."""

from __future__ import annotations

from collections.abc import Sequence

from app.audit.chain import Head
from app.audit.records import AuditPruned, Record
from app.audit.seals import Archived, Seal
from app.audit.storing import Execute, transaction
from app.audit.stretches import Stretch
from app.storage import Connection, Dialect
from app.storage.tables import FILED_LISTS, FILED_MEMBERS

__all__ = ["Overtaken", "bury", "pruned", "remove_some", "unremoved"]

RECORD = "record"
ENTRIES_AT_ONCE = 250
"""Rows and index entries that go in one transaction: a few milliseconds of the write lock."""

ENTRIES_OF_A_RECORD = 12
CHECKPOINTS_AT_ONCE = ENTRIES_AT_ONCE // 4

LENGTHS = " + ".join(f"coalesce(json_array_length(body, '$.{name}'), 0)" for name in FILED_LISTS)
SIZES = f"SELECT seq, {LENGTHS} FROM audit_records WHERE chain = ? AND seq <= ? ORDER BY seq LIMIT ?"  # noqa: S608 - constants
STRETCH = "chain = ? AND seq <= ?"
ARMS = [
    *(f"SELECT value, number FROM audit_records, json_each(body, '$.{name}') WHERE {STRETCH}" for name in FILED_LISTS),  # noqa: S608 - constants
    *(
        f"SELECT json_extract(body, '$.{member}'), number FROM audit_records WHERE {STRETCH} AND name = '{name}'"  # noqa: S608 - constants
        for name, member in FILED_MEMBERS.items()
    ),
]
IDS = " UNION ".join(ARMS)
"""What the trigger on records reads out of them."""

DELETE_CHECKPOINTS = (
    "DELETE FROM audit_checkpoints WHERE number IN (SELECT number FROM audit_checkpoints WHERE chain = ? AND seq < ? LIMIT ?)"
)
DELETE_ID = "DELETE FROM audit_ids WHERE value = ? AND number = ?"
DELETE_UNNESTED = (
    "DELETE FROM audit_ids USING unnest(?::text[], ?::bigint[]) AS gone (value, number) "
    "WHERE audit_ids.value = gone.value AND audit_ids.number = gone.number"
)


class Overtaken(Exception):
    """Another run has removed something of the chain meanwhile."""


def pruned(by: str, stretch: Stretch, archived: Archived | None) -> Record:
    """A stretch of a chain is being removed; `by` says who does it, as `how:name`."""
    return AuditPruned(
        by=by,
        subject=RECORD,
        pruned_chain=stretch.chain,
        first=stretch.first,
        last=stretch.last.seq,
        before=stretch.before,
        file=archived.file if archived else None,
        sha256=archived.sha256 if archived else None,
    ).record()


def bury(execute: Execute, stretch: Stretch, tombstone: Seal) -> None:
    """Store the tombstone of a stretch.

    Raises:
        Overtaken: the chain's last tombstone isn't the one that the stretch follows.
    """
    (last,) = execute("SELECT coalesce(max(seq), 0) FROM audit_tombstones WHERE chain = ?", (stretch.chain,)).fetchone()
    if last != stretch.start.seq:
        message = f"its records up to {last} were removed meanwhile, by another prune"
        raise Overtaken(message)
    execute("INSERT INTO audit_tombstones (body, signature) VALUES (?, ?)", (tombstone.body, tombstone.signature))


def unremoved(execute: Execute) -> list[str]:
    """The chains of which there is something yet that a tombstone stands for: an earlier run was interrupted."""
    query = (
        "SELECT chain FROM (SELECT chain, max(seq) AS upto FROM audit_tombstones GROUP BY chain) AS dead "
        "WHERE EXISTS (SELECT 1 FROM audit_records WHERE chain = dead.chain AND seq <= upto) "
        "OR EXISTS (SELECT 1 FROM audit_checkpoints WHERE chain = dead.chain AND seq < upto)"
    )
    return [chain for (chain,) in execute(query, ()).fetchall()]


def remove_some(connection: Connection, upto: Head) -> bool:
    """Remove a few of the records up to a tombstone's, or of the checkpoints before it, in one transaction; gives whether there were any.

    The checkpoint at the tombstone's own place stays: the next one names it.
    """
    last = _few(connection.execute, upto)
    if last is None:
        return connection.execute(DELETE_CHECKPOINTS, (upto.chain, upto.seq, CHECKPOINTS_AT_ONCE)).rowcount > 0
    few = (upto.chain, last)
    ids = connection.execute(IDS, few * len(ARMS)).fetchall()
    with transaction(connection):
        _delete_ids(connection, ids)
        connection.execute(f"DELETE FROM audit_records WHERE {STRETCH}", few)  # noqa: S608 - a constant
    return True


def _delete_ids(connection: Connection, ids: Sequence[tuple[str, int]]) -> None:
    if connection.dialect is Dialect.SQLITE:
        for one in ids:
            connection.execute(DELETE_ID, one)
    elif ids:
        connection.execute(DELETE_UNNESTED, tuple(map(list, zip(*ids, strict=True))))


def _few(execute: Execute, upto: Head) -> int | None:
    """The place up to which records can go at once: at least one, where there are any."""
    last, entries = None, 0
    for seq, ids in execute(SIZES, (upto.chain, upto.seq, ENTRIES_AT_ONCE // ENTRIES_OF_A_RECORD)).fetchall():
        entries += ENTRIES_OF_A_RECORD + ids
        if last is not None and entries > ENTRIES_AT_ONCE:
            break
        last = int(seq)
    return last
