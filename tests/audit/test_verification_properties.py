"""Any history of the record verifies; any single change of what is sealed doesn't, and is named rightly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from app.audit.chain import ADMINISTRATION
from app.audit.verification import Finding, Kind
from tests.audit.altering import InFile
from tests.audit.histories import History

Step = Callable[[History], object]

STEPS: dict[str, Step] = {
    "append": lambda history: history.append(),
    "append three": lambda history: history.append(3),
    "administer": History.administer,
    "checkpoint": History.checkpoint,
    "restart": History.restart,
    "prune": History.prune,
    "prune the first": lambda history: history.prune(chains(history)[0]),
    "prune the changes": lambda history: history.prune(ADMINISTRATION),
}
HISTORIES = st.lists(st.sampled_from(list(STEPS)), max_size=12)
CHOICES = st.integers(0, 9_999)
"""Which of several; taken modulo how many there are, since IDs and times are others in each history."""

T = TypeVar("T")


def chosen(choice: int, things: Sequence[T]) -> T:
    """One of them."""
    return things[choice % len(things)]


def altered(held: bytes, place: int, mask: int) -> bytes:
    """The bytes with one changed."""
    place %= len(held)
    return held[:place] + bytes([held[place] ^ mask]) + held[place + 1 :]


def chains(history: History) -> list[str]:
    """The chains that have records, the oldest first; the one that would be written to where there are none."""
    return list(dict.fromkeys(one["chain"] for one in history.records())) or [history.chain]


def lived(path: Path, schema: Path, steps: list[str]) -> History:
    """A history of these steps, after a beginning in which something is sealed."""
    path.write_bytes(schema.read_bytes())
    history = History(InFile(path))
    history.administer()
    history.append(2)
    history.checkpoint()
    history.append()
    for step in steps:
        STEPS[step](history)
    return history


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each history in turn is kept."""
    return tmp_path_factory.mktemp("history") / "gateway.db"


@given(steps=HISTORIES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_verifies(path: Path, schema: Path, steps: list[str]) -> None:
    """Appends, changes, checkpoints, restarts and prunes, in any order, leave a record that holds, with anchors of any time."""
    history = lived(path, schema, steps[: len(steps) // 2])
    anchors = history.anchors()
    for step in steps[len(steps) // 2 :]:
        STEPS[step](history)
    verified = history.verified(anchors=anchors)

    assert verified.holds, list(verified.findings)
    assert {one.kind for one in verified.findings} <= {Kind.TAIL_UNCOVERED}


def sealed_records(history: History) -> list[dict[str, Any]]:
    """The records that a checkpoint covers."""
    ends = {chain: history.sealed(chain) for chain in chains(history)}
    return [one for one in history.records() if one["seq"] <= ends[one["chain"]]]


def named(found: list[Finding], one: dict[str, Any]) -> bool:
    """Whether the record is named by chain, place and number."""
    return [(f.chain, f.seq, f.number) for f in found] == [(one["chain"], one["seq"], one["number"])]


@given(steps=HISTORIES, choice=CHOICES, in_body=st.booleans(), place=CHOICES, mask=st.integers(1, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_byte_of_any_record_that_changes_is_found(  # noqa: PLR0913, PLR0917 - what is drawn
    path: Path,
    schema: Path,
    steps: list[str],
    choice: int,
    in_body: bool,  # noqa: FBT001 - as above
    place: int,
    mask: int,
) -> None:
    """One byte of a body or a hash, written to the file past SQLite, is one finding, and that names the record."""
    history = lived(path, schema, steps)
    one = chosen(choice, sealed_records(history))
    held = one["body"].encode() if in_body else one["hash"]
    history.rewrite(held, altered(held, place, mask))
    found = history.wrong()

    assert [f.kind for f in found] == [Kind.RECORD_ALTERED]
    assert named(found, one)


@given(steps=HISTORIES, choice=CHOICES)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_record_that_is_deleted_is_found(path: Path, schema: Path, steps: list[str], choice: int) -> None:
    """One finding names its chain and its place, whether its chain goes on after it or not."""
    history = lived(path, schema, steps)
    one = chosen(choice, sealed_records(history))
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_records WHERE number = ?", (one["number"],))
    found = history.wrong()

    assert found[0].kind in {Kind.RECORD_MISSING, Kind.CHAIN_CUT, Kind.CHAIN_MISSING}
    event(found[0].kind)
    assert len(found) == 1
    assert found[0].chain == one["chain"]
    assert (found[0].seq or 0) <= one["seq"] <= (found[0].until or 0)


@given(steps=HISTORIES, choice=CHOICES, second=CHOICES)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_two_records_that_are_swapped_are_found(path: Path, schema: Path, steps: list[str], choice: int, second: int) -> None:
    """Each is named as lying where it doesn't belong, and no other is."""
    history = lived(path, schema, steps)
    records = history.records()
    one, other = chosen(choice, records), chosen(choice + 1 + second % (len(records) - 1), records)
    with history.editing() as connection:
        for old, new in ((one["number"], -1), (other["number"], one["number"]), (-1, other["number"])):
            connection.execute("UPDATE audit_records SET number = ? WHERE number = ?", (new, old))
    found = history.wrong()

    assert {f.kind for f in found} == {Kind.RECORD_MISPLACED}
    assert {(f.chain, f.seq, f.number) for f in found} == {
        (one["chain"], one["seq"], other["number"]),
        (other["chain"], other["seq"], one["number"]),
    }


@given(steps=HISTORIES, number=st.integers(-5, 1_000), choice=CHOICES)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_number_that_is_changed_is_found(path: Path, schema: Path, steps: list[str], number: int, choice: int) -> None:
    """A record that is moved is named as lying where it doesn't belong."""
    history = lived(path, schema, steps)
    records = history.records()
    assume(number not in {one["number"] for one in records})
    one = chosen(choice, records)
    with history.editing() as connection:
        connection.execute("UPDATE audit_records SET number = ? WHERE number = ?", (number, one["number"]))
    found = history.wrong()

    assert [(f.kind, f.chain, f.seq, f.number) for f in found] == [(Kind.RECORD_MISPLACED, one["chain"], one["seq"], number)]


@given(steps=HISTORIES, choice=CHOICES, in_body=st.booleans(), place=CHOICES, mask=st.integers(1, 255))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_byte_of_any_seal_that_changes_is_found(  # noqa: PLR0913, PLR0917 - what is drawn
    path: Path,
    schema: Path,
    steps: list[str],
    choice: int,
    in_body: bool,  # noqa: FBT001 - as above
    place: int,
    mask: int,
) -> None:
    """One byte of a checkpoint or a tombstone is one finding: it isn't what was signed, or not by whom it says."""
    history = lived(path, schema, steps)
    with history.editing() as connection:
        query = "SELECT body, signature FROM audit_checkpoints UNION ALL SELECT body, signature FROM audit_tombstones"
        body, signature = chosen(choice, connection.execute(query).fetchall())
    held = body.encode() if in_body else signature
    history.rewrite(held, altered(held, place, mask))
    found = history.wrong()

    assert len(found) == 1
    assert found[0].kind in {Kind.SIGNATURE_WRONG, Kind.KEY_UNKNOWN}


@given(steps=HISTORIES, choice=CHOICES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_tombstone_that_is_removed_is_found(path: Path, schema: Path, steps: list[str], choice: int) -> None:
    """What it stood for is missing then."""
    history = lived(path, schema, [*steps, "append", "checkpoint", "append", "prune"])
    with history.editing() as connection:
        stones = connection.execute("SELECT chain, seq FROM audit_tombstones").fetchall()
        chain, seq = chosen(choice, stones)
        connection.execute("DELETE FROM audit_tombstones WHERE chain = ? AND seq = ?", (chain, seq))
    found = history.wrong()

    assert {f.kind for f in found} <= {Kind.RECORD_MISSING, Kind.TOMBSTONE_MISSING, Kind.CHAIN_MISSING, Kind.CHAIN_CUT}
    assert [f.chain for f in found] == [chain]


@given(steps=HISTORIES, choice=CHOICES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_entry_of_the_index_that_is_removed_is_found(path: Path, schema: Path, steps: list[str], choice: int) -> None:
    """The record that could be found by it is named."""
    history = lived(path, schema, steps)
    with history.editing() as connection:
        entries = connection.execute("SELECT value, number FROM audit_ids").fetchall()
        assume(entries)
        value, number = chosen(choice, entries)
        connection.execute("DELETE FROM audit_ids WHERE value = ? AND number = ?", (value, number))

    assert [(f.kind, f.number) for f in history.wrong()] == [(Kind.INDEX_WRONG, number)]
