"""The records from before there were chains: sealed once, at the upgrade, while there is nothing else on record."""

from __future__ import annotations

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit.chain import Head, follow
from app.audit.seals import Signer
from app.audit.storing import Execute, insert_seals, last_number, position_of, sealed_until
from app.storage import lock_record, within

__all__ = ["BEFORE_CHAINS", "is_unsealed", "seal_upgraded"]

BEFORE_CHAINS = "before-chains"
SPAN_RECORDS = 1_000
PAGE = "SELECT seq, CAST(body AS BLOB), CAST(hash AS BLOB) FROM audit_records WHERE chain = ? AND seq > ? ORDER BY seq LIMIT ?"


async def is_unsealed(connection: AsyncConnection) -> bool:
    """Whether the upgrade has just chained records: they are all that is on record, and no checkpoint covers them.

    Once anything else is on record they are never sealed again: who rewrote them could have that signed.
    """
    return await connection.run_sync(lambda sync: _is_unsealed(within(sync).execute))


async def seal_upgraded(connection: AsyncConnection, signer: Signer) -> None:
    """Cover them with checkpoints, one for each thousand, in the transaction that is handed over.

    Raises:
        Broken: they aren't as the upgrade left them.
    """
    await connection.run_sync(_seal, signer)


def _is_unsealed(execute: Execute) -> bool:
    head = position_of(execute, BEFORE_CHAINS)
    return head.seq > 0 and head.seq == last_number(execute) and sealed_until(execute, BEFORE_CHAINS) == 0


def _seal(connection: Connection, signer: Signer) -> None:
    executor = within(connection)
    execute = executor.execute
    lock_record(executor)
    head = Head(BEFORE_CHAINS)
    while rows := execute(PAGE, (BEFORE_CHAINS, head.seq, SPAN_RECORDS)).fetchall():
        reached = follow(head, rows) if not head.seq else follow(Head(head.chain, head.seq, head.hash), [(head.seq, b"", head.hash), *rows])
        insert_seals(execute, [signer.checkpoint(reached, head.seq)])
        head = reached
