"""The chain of administrative changes: written to by whoever changes something, in the change's own transaction."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit.chain import ADMINISTRATION, Broken, Head, link
from app.audit.records import Record, chain_opened
from app.audit.sealed import sealed_head
from app.audit.seals import Signer, Trusted
from app.audit.storing import Execute, heads_of, insert_rows, insert_seals, last_number, open_chain, position_of
from app.storage import lock_record, within

__all__ = ["append"]

log = structlog.get_logger(__name__)


async def append(connection: AsyncConnection, records: Sequence[Record], signer: Signer) -> None:
    """Write records in the transaction that is handed over, with a checkpoint over them; they stand or fall with it.

    The transaction must be one of `writing`: this chain has many writers. Every one of them leaves the chain
    sealed to its end; where it isn't, somebody else has been at it, and nothing is sealed any more: `audit verify` goes on to say so.
    """
    await connection.run_sync(_append, records, signer)


def _append(connection: Connection, records: Sequence[Record], signer: Signer) -> None:
    executor = within(connection)
    execute = executor.execute
    lock_record(executor)
    head, sealed = position_of(execute, ADMINISTRATION), _sealed(execute, signer)
    if not head.seq:
        records = [chain_opened(heads_of(execute)), *records]
        open_chain(execute, ADMINISTRATION, None)
    rows, reached = link(head, records, last_number(execute))
    insert_rows(executor, rows)
    if sealed == head:
        insert_seals(execute, [signer.checkpoint(reached, sealed.seq)])
    else:
        log.error("the chain of administrative changes was changed by somebody else; what follows isn't sealed", chain=ADMINISTRATION)


def _sealed(execute: Execute, signer: Signer) -> Head | None:
    """What the chain's last checkpoint fixes, and that is all of the chain; None where it isn't the gateway's own."""
    try:
        return sealed_head(execute, ADMINISTRATION, Trusted(signer.public))
    except Broken:
        return None
