"""The chain of administrative changes: written to by whoever changes something, in the change's own transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit.chain import ADMINISTRATION, link
from app.audit.records import Record, chain_opened
from app.audit.seals import Signer
from app.audit.storing import Execute, heads_of, insert_rows, insert_seals, last_number, open_chain, position_of, sealed_until

__all__ = ["append"]


async def append(connection: AsyncConnection, records: Sequence[Record], signer: Signer) -> None:
    """Write records in the transaction that is handed over, with a checkpoint over them; they stand or fall with it.

    The transaction must hold the database's write lock from its beginning: this chain has many writers.
    """
    await connection.run_sync(_append, records, signer)


def _append(connection: Connection, records: Sequence[Record], signer: Signer) -> None:
    execute: Execute = connection.exec_driver_sql
    head = position_of(execute, ADMINISTRATION)
    if not head.seq:
        records = [chain_opened(heads_of(execute)), *records]
        open_chain(execute, ADMINISTRATION, None)
    rows, reached = link(head, records, last_number(execute))
    insert_rows(execute, rows)
    insert_seals(execute, [signer.checkpoint(reached, sealed_until(execute, ADMINISTRATION))])
