"""`audit prune`: removing what is old from the record."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from app.cli.output import print_json, print_table
from app.cli.records import legible
from app.cli.state import retain
from app.errors import Conflict, ParameterInvalid, StartRefused
from app.retention import ArchiveUnusable, Plan, Pruning, Removed, Retention, Spared

__all__ = ["prune"]

COLUMNS = ("chain", "first", "last", "records", "archived as")


def prune(
    before: Annotated[str, typer.Option(help="Remove what is older: a date, or a time, as ISO 8601; UTC unless it names a zone.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,  # noqa: FBT002 - a flag of the command line
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,  # noqa: FBT002 - as above
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,  # noqa: FBT002 - as above
) -> None:
    """Remove old records for good, in whole stretches between checkpoints; a signed tombstone stands for each. It may be interrupted."""
    moment = _parse_before(before, datetime.now(UTC))
    try:
        pruning = retain(lambda retention: _prune(retention, moment, dry_run=dry_run, agreed=yes))
    except ArchiveUnusable as error:
        message = f"GATEWAY_AUDIT_ARCHIVE_DIR: the archive can't be written, so what isn't in it stays: {error}"
        raise StartRefused(message) from error
    _show(pruning, as_json=as_json, verb="would be removed" if dry_run else "removed")
    if pruning.spared:
        raise Conflict("; ".join(legible(f"nothing of chain {one.chain} is removed: {one.reason}") for one in pruning.spared))


def _parse_before(text: str, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        detail = "--before takes a date or a time in ISO 8601, such as 2027-01-31 or 2027-01-31T12:00Z"
        raise ParameterInvalid(detail) from None
    if moment > now:
        detail = "--before lies in the future"
        raise ParameterInvalid(detail)
    return moment


async def _prune(retention: Retention, before: datetime, *, dry_run: bool, agreed: bool) -> Pruning:
    plan = await retention.plan(before)
    if dry_run:
        return Pruning([Removed(stretch, None) for stretch in plan.stretches], plan.spared)
    if plan.stretches and not agreed and sys.stdin.isatty():
        typer.confirm(f"Remove {_sum(plan)} for good?", abort=True)
    return await retention.prune(plan)


def _sum(plan: Plan) -> str:
    records = sum(stretch.count for stretch in plan.stretches)
    return f"{records} records of {len(plan.stretches)} chains"


def _show(pruning: Pruning, *, as_json: bool, verb: str) -> None:
    if as_json:
        print_json({"removed": [_members(one) for one in pruning.removed], "spared": _spared_members(pruning.spared)})
        return
    rows = [[cell and legible(cell) for cell in list(_members(one).values())[: len(COLUMNS)]] for one in pruning.removed]
    print_table(COLUMNS, rows, nothing=f"nothing {verb}")
    if rows:
        print(f"{sum(one.stretch.count for one in pruning.removed)} records {verb}")


def _members(one: Removed) -> dict[str, object]:
    stretch, archived = one.stretch, one.archived
    return {
        "chain": stretch.chain,
        "first": stretch.first,
        "last": stretch.last.seq,
        "records": stretch.count,
        "file": archived.file if archived else None,
        "sha256": archived.sha256 if archived else None,
    }


def _spared_members(spared: Sequence[Spared]) -> list[dict[str, str]]:
    return [{"chain": one.chain, "reason": one.reason} for one in spared]
