"""The records of the record itself: chains that begin, and beginnings that are removed."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from app.audit.records.changes import Change
from app.audit.records.members import Chain, ChainHead, Ends, Seq
from app.audit.records.names import Name
from app.audit.records.record import Record, Told

__all__ = ["AuditPruned", "ChainOpened", "chain_opened"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainOpened(Told):
    """A chain begins; this is its first record."""

    name: Literal[Name.CHAIN_OPENED] = Name.CHAIN_OPENED
    process: Annotated[int, Field(ge=1, description="The number that the operating system gave the process.")]
    host: Annotated[str, Field(description="The name of its machine.")]
    heads: Annotated[list[ChainHead], Field(description="Where the known chains stand.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPruned(Change):
    """The beginning of a chain was removed; a signed tombstone stands for it."""

    name: Literal[Name.AUDIT_PRUNED] = Name.AUDIT_PRUNED
    pruned_chain: Annotated[Chain, Field(description="The chain whose beginning was removed.")]
    first: Annotated[Seq, Field(description="The place of the first record that was removed.")]
    last: Annotated[Seq, Field(description="The place of the last record that was removed.")]
    before: Annotated[Ends, Field(description="What is older than this was to be removed (UTC, ISO 8601).")]
    file: Annotated[str, Field(description="The archive that the records were exported to, if they were.")] | None = None
    sha256: Annotated[str, Field(description="The SHA-256 of the archive, in hex.")] | None = None


def chain_opened(heads: list[ChainHead]) -> Record:
    """A chain begins; `heads` are those of the chains that are known, each with its `chain`, `seq` and `hash`."""
    return ChainOpened(process=os.getpid(), host=socket.gethostname(), heads=heads).record()
