"""`audit verify`, `audit anchor`, `audit key`: proving the record, and what the proof is kept by."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.audit import Seal
from app.audit.anchors import AnchorUnreadable, anchor_line, newest_anchors, read_anchors
from app.audit.verification import Finding, Verified, verify
from app.cli.ending import ended_in_order
from app.cli.output import complete_file, print_json
from app.cli.records import legible
from app.errors import Conflict, NotFound, StartRefused
from app.proving import held_signer, read_only, trusted_keys
from app.settings import load_settings
from app.storage.scan import Scan

__all__ = ["add_to"]

MOST_PRINTED = 50

Json = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
Keys = Annotated[
    list[Path] | None, typer.Option("--key", help="PEM file of public keys to believe, instead of the gateway's own; repeatable.")
]
Anchors = Annotated[Path | None, typer.Option("--anchor", help="File of checkpoints kept elsewhere, as `audit anchor` writes them.")]
Archive = Annotated[Path | None, typer.Option("--archive", help="Folder with archives of removed records; they are recomputed too.")]
Output = Annotated[Path | None, typer.Option("--output", help="Write to this file instead of standard output.")]


def add_to(group: typer.Typer) -> None:
    """Add the commands to those that read the record."""
    group.command("verify")(verify_)
    group.command("anchor")(anchor)
    group.command("key")(key)


def verify_(
    keys: Keys = None,
    anchors: Anchors = None,
    archive: Archive = None,
    as_json: Json = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Recompute every chain and check every signature. Status 0 if all holds, 1 if not, 2 if it can't be done."""
    settings = load_settings()
    if archive and not archive.is_dir():
        message = f"--archive: {archive} is no folder"
        raise StartRefused(message)
    with ended_in_order(), read_only(settings) as scan:
        trusted = trusted_keys(settings, scan, keys or [])
        with _read(anchors) as kept, _progress(scan) as seen:
            verified = verify(scan, trusted, anchors=kept, archive=archive, seen=seen)
    (_print_document if as_json else _print_findings)(verified, kept.count)
    if not verified.holds:
        raise typer.Exit(1)


def anchor(keys: Keys = None, output: Output = None) -> None:
    """Write the newest checkpoint of each chain, a line of JSON each, to be kept where nobody can change it. Status 1 if one is forged."""
    settings = load_settings()
    with ended_in_order(), read_only(settings) as scan:
        anchors = newest_anchors(scan.seals("audit_checkpoints"), trusted_keys(settings, scan, keys or []))
    _write("".join(anchor_line(one) + "\n" for one in anchors.seals), output)
    if anchors.doubtful:
        detail = f"{len(anchors.doubtful)} checkpoints aren't what the gateway signed, and are left out: `audit verify` says which"
        raise Conflict(detail)


def _write(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        return
    with complete_file(output) as file:
        file.write(text.encode())


def key(as_json: Json = False) -> None:  # noqa: FBT002 - a flag of the command line
    """Print the public key that checkpoints are signed with, in PEM, and its ID."""
    settings = load_settings()
    with read_only(settings) as scan:
        signer = held_signer(settings, scan)
    if signer is None:
        message = "there is no signing key yet: it is made with the first record"
        raise NotFound(message)
    if as_json:
        print_json({"id": signer.key_id, "pem": signer.public_pem})
    else:
        print(f"key {signer.key_id}\n{signer.public_pem}", end="")


class _Anchors:
    """Anchors as they are asked for, and how many that were."""

    def __init__(self, anchors: Iterator[tuple[int, Seal]]) -> None:
        self._anchors = anchors
        self.count = 0

    def __iter__(self) -> Iterator[tuple[int, Seal]]:
        for anchor in self._anchors:
            self.count += 1
            yield anchor


@contextmanager
def _read(path: Path | None) -> Iterator[_Anchors]:
    """The anchors of a file; none without one.

    Raises:
        StartRefused: it can't be read, or holds none: nothing would be compared, though somebody thinks so.
    """
    if path is None:
        yield _Anchors(iter(()))
        return
    with ExitStack() as stack:
        try:
            anchors = read_anchors(stack.enter_context(path.open("rb")))
            first = next(anchors, None)
            if first is None:
                message = f"--anchor: {path} holds no anchor"
                raise StartRefused(message)
            yield _Anchors(chain([first], anchors))
        except (OSError, AnchorUnreadable) as error:
            message = f"--anchor: {path} can't be read: {error}"
            raise StartRefused(message) from error


@contextmanager
def _progress(scan: Scan) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error."""
    console = Console(stderr=True)
    columns = (TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=scan.last_number())
        yield lambda rows: progress.advance(task, rows)


def _print_document(verified: Verified, anchors: int) -> None:
    print_json(
        {
            "holds": verified.holds,
            "records": verified.records,
            "chains": verified.chains,
            "anchors": anchors,
            "failures": [one.members() for one in verified.findings if not one.kind.is_note],
            "notes": [one.members() for one in verified.findings if one.kind.is_note],
            "more": verified.findings.more,
        }
    )


def _print_findings(verified: Verified, anchors: int) -> None:
    findings = sorted(verified.findings, key=lambda one: one.kind.is_note)
    for one in findings[:MOST_PRINTED]:
        print(legible(f"{'note' if one.kind.is_note else 'WRONG'}  {one.kind}: {_place(one)}{one.text}"))
    more = len(findings[MOST_PRINTED:]) + verified.findings.more
    if more:
        print(f"… and {more} more")
    amount = f"{verified.records} records in {verified.chains} chains{f' against {anchors} anchors' if anchors else ''}"
    print(f"all holds: {amount}" if verified.holds else f"NOT PROVEN: {verified.findings.failures} findings in {amount}")


def _place(one: Finding) -> str:
    """Where it was found, as far as it is known."""
    until = f" to {one.until}" if one.until and one.until != one.seq else ""
    known = {"chain ": one.chain, "seq ": one.seq and f"{one.seq}{until}", "number ": one.number, "ID ": one.id}
    place = ", ".join(f"{name}{value}" for name, value in known.items() if value is not None)
    return f"{place}: " if place else ""
