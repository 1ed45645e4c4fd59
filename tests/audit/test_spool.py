"""The spool's file: what was kept is there again, whatever happened to the process or to the file's end."""

from __future__ import annotations

import errno
import stat
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.audit import Name, Record, Spool
from app.audit.canonical import canonical
from app.audit.records import (
    TokenResumed,
    TokenTested,
    call_intent,
    call_outcome,
    call_refused,
    changed_by,
    refusals_counted,
    send_intent,
    send_outcome,
    token_echoed,
)
from app.audit.records.known import record_from
from app.audit.spool import PREALLOCATED_BYTES
from app.domain import Actor, Linked, Send
from app.errors import ParameterMissing, StartRefused
from tests.calls import make_asked, make_call
from tests.limits import no_file_larger_than
from tests.records import administrative

ENOUGH = 2_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the spool is."""
    return tmp_path / "audit.spool"


def record(subject: str) -> Record:
    """A record to tell from others."""
    return administrative(Name.CALLER_ENABLED, "test", subject)


@lru_cache
def body(subject: str) -> bytes:
    """One as JSON, the same each time."""
    return canonical(record(subject).members)


def left(path: Path) -> list[str]:
    """What the next process finds, by its subjects."""
    spool = Spool(path)
    spool.close()
    return [str(one.members["subject"]) for one in spool.left]


def test_it_is_made_with_its_room_taken_and_its_owners_alone(path: Path) -> None:
    """Its 8 MiB have their blocks on the disk from the beginning, and nobody else can read it."""
    Spool(path).close()
    made = path.stat()

    assert made.st_size == PREALLOCATED_BYTES
    assert made.st_blocks * 512 >= PREALLOCATED_BYTES
    assert stat.S_IMODE(made.st_mode) == 0o600


def test_a_file_whose_room_was_not_taken_gets_it(path: Path) -> None:
    """A process that died while it made the file leaves a short one; and a mode that is too wide is narrowed."""
    path.write_bytes(bytes(10))
    path.chmod(0o644)
    Spool(path).close()

    assert path.stat().st_size == PREALLOCATED_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_kept_is_there_for_the_next_process(path: Path) -> None:
    """In its order, with the ID, the time and all else that the records had."""
    kept = [record("one"), record("zwei")]
    spool = Spool(path)
    spool.keep([canonical(one.members) for one in kept])
    spool.keep([body("three")])
    spool.close()
    again = Spool(path)
    again.close()

    assert again.holds_any
    assert again.left[:2] == kept
    assert left(path) == ["one", "zwei", "three"]


def test_the_next_process_adds_to_what_is_there(path: Path) -> None:
    """What it finds stays until it clears it."""
    for subject in ("one", "two"):
        spool = Spool(path)
        spool.keep([body(subject)])
        spool.close()

    assert left(path) == ["one", "two"]


def test_a_record_that_stands_there_twice_is_found_once(path: Path) -> None:
    """It may have been kept again after an attempt whose end wasn't known."""
    spool = Spool(path)
    one = body("one")
    spool.keep([one, body("two")])
    spool.keep([one])
    spool.close()

    assert left(path) == ["one", "two"]


def test_what_was_cleared_is_gone(path: Path) -> None:
    """Also where what comes next is shorter than what stood there, and what it grew by is given back."""
    spool = Spool(path)
    spool.keep([body("x" * PREALLOCATED_BYTES), body("behind")])
    grown = path.stat().st_size
    spool.clear()
    empty = not spool.holds_any
    spool.keep([body("one")])
    spool.close()

    assert grown > PREALLOCATED_BYTES
    assert empty
    assert path.stat().st_size == PREALLOCATED_BYTES
    assert left(path) == ["one"]


def subjects(*names: str) -> list[bytes]:
    """A group of records."""
    return [body(name) for name in names]


def damaged_copies(path: Path) -> list[Path]:
    """The copies that were kept of it."""
    return sorted(path.parent.glob("audit.spool.damaged-*"))


def flip(path: Path, place: int, bit: int = 0) -> None:
    """The disk gives one bit wrong."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def test_a_damaged_entry_costs_no_other(path: Path) -> None:
    """Of a thousand durable entries whose third has one wrong bit 999 are found, an error counts them, and a copy of the file stays."""
    names = [f"record-{number:03}" for number in range(1_000)]
    spool = Spool(path)
    for start in range(0, 1_000, 10):
        spool.keep(subjects(*names[start : start + 10]))
    spool.close()
    flip(path, path.read_bytes().index(b"record-002"))
    damaged = path.read_bytes()
    with capture_logs() as lines:
        found = left(path)
    (copy,) = damaged_copies(path)

    assert found == [*names[:2], *names[3:]]
    assert copy.read_bytes() == damaged
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [(line["log_level"], line["entries"], line["places"], line["copy"]) for line in lines] == [("error", 999, 1, str(copy))]


def test_what_was_cleared_is_not_taken_for_entries(path: Path) -> None:
    """Whole frames of an older use that lie behind the end stay unread, whatever is damaged before them, and damage nothing."""
    spool = Spool(path)
    for number in range(10):
        spool.keep(subjects(f"older-{number}", f"older-{number}-too"))
    spool.clear()
    spool.keep(subjects("one"))
    spool.keep(subjects("two"))
    spool.close()
    flip(path, path.read_bytes().index(b'"one"'))

    assert left(path) == ["two"]
    assert b"older-9-too" in path.read_bytes()


def test_a_torn_write_is_no_damage(path: Path) -> None:
    """Where the last write alone didn't reach the disk whole, nobody was told that it had: a warning, no error and no copy."""
    spool = Spool(path)
    spool.keep(subjects("one"))
    spool.keep(subjects("torn", "behind it"))
    spool.close()
    flip(path, path.read_bytes().index(b'"torn"'))
    with capture_logs() as lines:
        found = left(path)

    assert found == ["one"]
    assert [line["log_level"] for line in lines] == ["warning"]
    assert damaged_copies(path) == []


def test_a_file_in_which_nothing_can_be_read_is_damaged(path: Path) -> None:
    """It isn't taken for an empty one: a copy stays, an error tells, and the spool works again."""
    path.write_bytes(b"something else")
    with capture_logs() as lines:
        spool = Spool(path)
        spool.keep(subjects("one"))
        spool.close()

    assert [line["log_level"] for line in lines] == ["error"]
    assert len(damaged_copies(path)) == 1
    assert left(path) == ["one"]


def test_damage_of_which_no_copy_can_be_made_stops_the_start(path: Path) -> None:
    """To go on would be to remove, with what is on record, the only trace of what isn't."""
    path.write_bytes(bytes(PREALLOCATED_BYTES + 1) + b"!")
    with no_file_larger_than(PREALLOCATED_BYTES), pytest.raises(StartRefused, match="is damaged, and no copy of it can be made"):
        Spool(path)


def test_a_clearing_that_fails_hides_nothing_that_comes_later(path: Path) -> None:
    """What is kept after it is found, whether or not what was to be cleared is found too."""
    spool = Spool(path)
    spool.keep(subjects("cleared"))
    with no_file_larger_than(0), pytest.raises(OSError, match="File too large"):
        spool.clear()
    unsure = spool.holds_any
    spool.keep(subjects("later"))
    spool.close()

    assert unsure
    assert left(path) == ["later"]


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_torn_end_is_left_out(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A loss of power in the middle of a write: whatever part of the last group reached the disk, all before it is found, and goes on."""
    path = tmp_path_factory.mktemp("torn") / "audit.spool"
    spool = Spool(path)
    spool.keep([body("one"), body("two")])
    before = path.read_bytes()[:ENOUGH]
    spool.keep([body("torn"), body("and more")])
    after = path.read_bytes()[:ENOUGH]
    spool.close()
    changed = [place for place, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    lost = data.draw(st.sets(st.sampled_from(changed), min_size=1))
    path.write_bytes(bytes(before[place] if place in lost else new for place, new in enumerate(after[: changed[-1] + 1])))
    found = left(path)
    goes_on = Spool(path)
    goes_on.keep([body("next")])
    goes_on.close()

    assert found in (["one", "two"], ["one", "two", "torn"])
    assert left(path) == [*found, "next"]


def test_what_is_beyond_its_room_is_kept_or_refused_whole(path: Path) -> None:
    """On a full disk it takes what fits its 8 MiB; what doesn't is refused, and what was there stays."""
    spool = Spool(path)
    with no_file_larger_than(PREALLOCATED_BYTES):
        spool.keep([body("fits")])
        with pytest.raises(OSError, match=r"File too large") as refused:
            spool.keep([body("x" * PREALLOCATED_BYTES)])
        spool.keep([body("fits too")])
    spool.close()

    assert refused.value.errno == errno.EFBIG
    assert left(path) == ["fits", "fits too"]


def test_a_spool_that_can_not_be_made_stops_the_start(tmp_path: Path) -> None:
    """Without its room on the disk an outcome could be lost, so the gateway doesn't begin."""
    with no_file_larger_than(1_000_000), pytest.raises(StartRefused, match=r"GATEWAY_STATE_DIR: .*audit\.spool can't be used"):
        Spool(tmp_path / "audit.spool")


def test_a_spool_that_is_a_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    """Somebody who may make a link there can't have the records written elsewhere."""
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(StartRefused):
        Spool(path)


def other(**members: object) -> bytes:
    """A call's intent with other members than this version's; None: without that one."""
    changed = {**call_intent(make_call(1)).members, **members}
    return canonical({name: value for name, value in changed.items() if value is not None})


UNKNOWN = {
    "another name": other(name="no:such"),
    "no name": other(name=None),
    "no ID": other(id=None),
    "a member less": other(call_id=None),
    "a member more": other(priority="high"),
    "a value of another kind": other(ids="1"),
    "no object": b"[]",
    "no JSON": b"{",
}


@pytest.mark.parametrize("entry", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_this_version_does_not_know_stops_the_start(path: Path, entry: bytes) -> None:
    """It was durable once; to go on without it would be to lose it, and to write it as it is, to stumble over it for ever."""
    spool = Spool(path)
    spool.keep([body("one"), entry])
    spool.close()
    before = path.read_bytes()

    with pytest.raises(StartRefused, match="start the version that wrote it"):
        Spool(path)
    assert path.read_bytes() == before


def test_what_is_wrong_with_it_is_named() -> None:
    """The refusal says which record and which of its members isn't known, in one line."""
    with pytest.raises(ValueError, match=r"^call:intent: priority: Unexpected keyword argument$"):
        record_from(other(priority="high"))
    with pytest.raises(ValueError, match=r"^call:intent: id: missing$"):
        record_from(other(id=None))


def test_every_record_that_can_wait_is_known_again(path: Path) -> None:
    """What this version keeps is what this version reads: each kind of record that goes to the spool, with all that it can hold."""
    call = make_call(2**63 - 1, 5)
    send = Send(attempt=2, lane="lane-1", ids=(5,), calls=(call, make_call(5)), released=0.0)
    by = changed_by(Actor(by="caller:operator", request_id="request-1", credential_id="key-1", address="10.0.0.1"))
    tested = TokenTested(**by, subject="shop", token="shop", probes=["one"], seems=None, code="ok")
    kept = [
        call_intent(call),
        call_outcome(call, code="ok", linked=Linked((-1, 5)), upstream_status=200, send_id=send.id, attempts=1, queued=0.002, upstream=0.5),
        call_outcome(call, code="caller-gone", uncertain=True),
        call_refused(make_asked(call.caller), ParameterMissing("none"), read=None, token=None),
        refusals_counted(address="other", caller=None, code="not-found", count=3),
        send_intent(send),
        send_outcome(send, Linked((5,)), written=True),
        send_outcome(send, None, written=False),
        token_echoed(send, 2),
        tested.record(),
        TokenResumed(**by, subject="shop", operations=["link-orders"]).record(),
    ]
    spool = Spool(path)
    spool.keep([canonical(one.members) for one in kept])
    spool.close()
    again = Spool(path)
    again.close()

    assert again.left == kept
