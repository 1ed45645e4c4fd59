"""What a verification finds, kind by kind, in a real database that was edited by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.audit import Seal, Signer, Trusted
from app.audit.anchors import AnchorUnreadable, anchor_line, read_anchors
from app.audit.canonical import canonical
from app.audit.chain import ADMINISTRATION, GENESIS, next_hash
from app.audit.verification import Finding, Findings, Kind
from app.audit.verification.state import MOST_GAPS, Gap, Progress
from app.storage.scan import LARGEST_VALUE
from tests.audit.altering import ON_SQLITE, InFile
from tests.audit.histories import SIGNER, History, flipped, places, rehash


@pytest.fixture
def history(empty: History) -> History:
    """Two processes and some changes: the first chain closed, of 7 records, the second of 8, sealed up to 5 and then to 8."""
    made = empty
    made.administer()
    made.append(3)
    made.checkpoint()
    made.administer()
    made.append(3)
    made.restart()
    made.append(4)
    made.checkpoint()
    made.administer()
    made.append(3)
    made.checkpoint()
    return made


def file_of(history: History) -> Path:
    """SQLite's file, with all that is in its log."""
    assert isinstance(history.database, InFile)
    with history.editing() as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return history.database.path


def record_of(history: History, seq: int) -> dict[str, Any]:
    """A record of the chain that is written to."""
    return history.records(history.chain)[seq - 1]


def first_chain(history: History) -> str:
    """The chain that was closed."""
    return next(str(one["chain"]) for one in history.records() if one["chain"] not in {ADMINISTRATION, history.chain})


def test_what_nobody_touched_holds(history: History) -> None:
    """An untouched record holds, without a note."""
    verified = history.verified()

    assert verified.holds
    assert list(verified.findings) == []
    assert (verified.records, verified.chains) == (7 + 8 + 4, 3)


def test_a_record_that_was_altered_is_named(history: History) -> None:
    """An altered body is one finding, with chain, place, number and ID."""
    one = record_of(history, 4)
    history.rewrite(one["body"].encode(), one["body"].replace('"7"', '"8"').encode())

    (found,) = history.wrong()
    assert found.members() | {"text": ""} == {
        "kind": "record-altered",
        "text": "",
        "chain": history.chain,
        "seq": 4,
        "number": one["number"],
        "id": one["id"],
    }


@pytest.mark.parametrize("body", ["{}", "[]", "no JSON"])
def test_a_body_that_is_no_record_any_more_is_named_by_what_follows(history: History, body: str) -> None:
    """Whatever stands in the body, the next record tells which one it was."""
    one = record_of(history, 6)
    history.rewrite(one["body"].encode(), body.encode().ljust(len(one["body"])))

    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, 6, one["number"])]


@ON_SQLITE
def test_a_body_that_is_no_text_any_more_is_named_by_what_follows(history: History) -> None:
    """What isn't UTF-8 is no exception."""
    one = record_of(history, 6)
    history.rewrite(one["body"].encode(), b"\xff".ljust(len(one["body"])))

    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, 6, one["number"])]


@pytest.mark.parametrize("seq", [2**53, 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("member", ["seq", "number"])
def test_a_place_that_no_record_can_have_is_named_by_what_follows(history: History, member: str, seq: int) -> None:
    """A number that canonical JSON can't hold makes it no record, in the middle of a chain as well as in a row that was added."""
    one = record_of(history, 6)
    history.loosen()
    body = canonical({**json.loads(one["body"]), member: 0}).decode().replace(f'"{member}":0', f'"{member}":{seq}')
    with history.editing() as connection:
        connection.execute("UPDATE audit_records SET body = ? WHERE number = ?", (body, one["number"]))
        connection.execute("INSERT INTO audit_records (number, body, hash) VALUES (1000, ?, ?)", (body, bytes(32)))

    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, 6, one["number"]), (Kind.RECORD_ALTERED, None, None, 1000)]


def test_ids_in_ever_deeper_lists_are_no_ids(history: History) -> None:
    """However deep the lists are in what should be an ID, the record is named and the rest verified."""
    one = record_of(history, 6)
    with history.editing() as connection:
        body = one["body"].replace('"ids":["0","7"]', f'"ids":[{"[" * 1_000}{"]" * 1_000}]')
        assert len(body) > len(one["body"]) + 1_000
        connection.execute("UPDATE audit_records SET body = ? WHERE number = ?", (body, one["number"]))

    assert (Kind.RECORD_ALTERED, history.chain, 6, one["number"]) in places(history.wrong())


def test_heads_that_no_chain_can_have_are_passed_over(history: History) -> None:
    """A forged first record in a tail that nothing covers yet is taken for what it is: no chain is named."""
    members = {"id": "forged", "name": "chain:opened", "chain": "forged", "seq": 1, "number": 20}
    body = canonical({**members, "heads": [{"chain": "other", "seq": 0, "hash": ""}]}).decode().replace('"seq":0', f'"seq":{2**64 - 1}')
    with history.editing() as connection:
        connection.execute("INSERT INTO audit_records (number, body, hash) VALUES (20, ?, ?)", (body, next_hash(GENESIS, body.encode())))
    verified = history.verified()

    assert [one.kind for one in verified.findings] == [Kind.TAIL_UNCOVERED]


@pytest.mark.parametrize("seq", [6, 8])
def test_a_body_larger_than_any_is_named(history: History, seq: int) -> None:
    """It isn't read; by the hash beside it, what follows tells which one it was."""
    one = record_of(history, seq)
    history.loosen()
    with history.editing() as connection:
        connection.execute("UPDATE audit_records SET body = ? WHERE number = ?", ("x" * (LARGEST_VALUE + 1), one["number"]))

    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, seq, one["number"])]


def test_many_records_that_were_moved_are_each_found_in_their_gap(history: History) -> None:
    """Every second record, moved behind the others: each is in the wrong place, and none is missing."""
    history.append(400)
    history.checkpoint()
    moved = [one["number"] for one in history.records(history.chain)[9::2]][:-1]
    with history.editing() as connection:
        for number in moved:
            connection.execute("UPDATE audit_records SET number = number + 1000 WHERE number = ?", (number,))
    found = history.wrong()

    assert {one.kind for one in found} == {Kind.RECORD_MISPLACED}
    assert sorted(one.number or 0 for one in found) == [number + 1_000 for number in moved]


def test_more_gaps_than_there_is_room_for_stay_missing() -> None:
    """What lies in those that aren't kept isn't looked for."""
    chain = Progress("c")
    for seq in range(0, 2 * MOST_GAPS + 10, 2):
        chain.open_gap(Gap(seq, seq, 1, 0))
    kept = chain.gap_of(2)
    if kept:
        chain.close_gap(kept)

    assert kept
    assert [chain.gap_of(seq) for seq in (2, 3, 2 * MOST_GAPS)] == [None, None, None]
    assert chain.gap_of(4)
    assert len(chain.gaps) == MOST_GAPS - 1


def test_the_last_record_altered_is_named_by_its_checkpoint(history: History) -> None:
    """Where no record follows, the checkpoint tells which one it was."""
    one = record_of(history, 8)
    history.rewrite(one["body"].encode(), b"x" * len(one["body"].encode()))

    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, 8, one["number"])]


@pytest.mark.parametrize("seq", [1, 4, 5, 8])
def test_an_altered_hash_is_named(history: History, seq: int) -> None:
    """A byte of the column `hash` is found, at a checkpoint too."""
    one = record_of(history, seq)
    history.rewrite(one["hash"], flipped(one["hash"], 3))

    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, seq, one["number"])]


@ON_SQLITE
def test_a_body_stored_as_another_type_is_named(history: History) -> None:
    """A BLOB of the same bytes can't be searched; it isn't what was written."""
    one = record_of(history, 4)
    body = one["body"].encode()
    held = file_of(history).read_bytes()
    kind = held[held.index(body) - 2 : held.index(body)]
    history.rewrite(kind + body, bytes([kind[0] - 1]) + kind[1:] + body)

    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, 4, one["number"])]


@pytest.mark.parametrize(("seq", "number"), [(4, 1_000), (4, -1), (8, 1_000)])
def test_an_altered_number_is_named(history: History, seq: int, number: int) -> None:
    """The number stands in the body too: a record that was moved is in the wrong place."""
    one = record_of(history, seq)
    with history.editing() as connection:
        connection.execute("UPDATE audit_records SET number = ? WHERE number = ?", (number, one["number"]))

    assert places(history.wrong()) == [(Kind.RECORD_MISPLACED, history.chain, seq, number)]


@pytest.mark.parametrize("seqs", [(3, 4), (3, 7), (2, 8)])
def test_records_that_were_swapped_are_named(history: History, seqs: tuple[int, int]) -> None:
    """Both are in the wrong place, and no other."""
    one, other = (record_of(history, seq)["number"] for seq in seqs)
    with history.editing() as connection:
        for old, new in ((one, -1), (other, one), (-1, other)):
            connection.execute("UPDATE audit_records SET number = ? WHERE number = ?", (new, old))

    assert set(places(history.wrong())) == {
        (Kind.RECORD_MISPLACED, history.chain, seqs[0], other),
        (Kind.RECORD_MISPLACED, history.chain, seqs[1], one),
    }


def remove(history: History, *numbers: int) -> None:
    """Delete records, with what they are filed by."""
    with history.editing() as connection:
        for number in numbers:
            connection.execute("DELETE FROM audit_records WHERE number = ?", (number,))
            connection.execute("DELETE FROM audit_ids WHERE number = ?", (number,))


@pytest.mark.parametrize(("first", "last"), [(1, 1), (2, 2), (4, 4), (5, 5), (5, 7), (1, 7)])
def test_records_that_are_missing_are_named(history: History, first: int, last: int) -> None:
    """A gap in a chain is one finding, wherever it is, naming the first and the last."""
    remove(history, *(record_of(history, seq)["number"] for seq in range(first, last + 1)))

    (found,) = history.wrong()
    assert (found.kind, found.chain, found.seq, found.until) == (Kind.RECORD_MISSING, history.chain, first, last)


def test_a_chain_that_was_cut_is_named(history: History) -> None:
    """A checkpoint beyond the last record tells how far the chain went."""
    remove(history, *(record_of(history, seq)["number"] for seq in (7, 8)))

    (found,) = history.wrong()
    assert (found.kind, found.chain, found.seq, found.until) == (Kind.CHAIN_CUT, history.chain, 7, 8)


def test_a_chain_cut_with_its_checkpoint_is_named_by_another_chain(history: History) -> None:
    """The next chain's first record says where this one stood."""
    chain = first_chain(history)
    remove(history, *(one["number"] for one in history.records(chain)[5:]))
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ? AND seq > 4", (chain,))

    (found,) = history.wrong()
    assert (found.kind, found.chain, found.seq, found.until) == (Kind.CHAIN_CUT, chain, 6, 7)


def test_a_chain_that_is_missing_altogether_is_named(history: History) -> None:
    """With its records, its checkpoints and its row gone, other chains' first records name it."""
    chain = first_chain(history)
    remove(history, *(one["number"] for one in history.records(chain)))
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ?", (chain,))
        connection.execute("DELETE FROM audit_chains WHERE id = ?", (chain,))

    (found,) = history.wrong()
    assert (found.kind, found.chain, found.until) == (Kind.CHAIN_MISSING, chain, 7)


def test_a_chain_hashed_anew_is_found_between_its_checkpoints(history: History) -> None:
    """A forger who hashes all that follows anew is told by the next checkpoint, once."""
    chain = history.chain
    history.append(3)
    rehash(history, chain, 3, '"7"', '"8"')
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_ids WHERE number = ? AND value = '7'", (record_of(history, 3)["number"],))
        connection.execute("INSERT INTO audit_ids VALUES ('8', ?)", (record_of(history, 3)["number"],))

    (found,) = history.wrong()
    assert (found.kind, found.chain, found.seq, found.until) == (Kind.RECORDS_ALTERED, chain, 1, 5)


def forged(history: History, chain: str, seq: int) -> None:
    """Append a record as somebody would who doesn't hash."""
    number = history.records()[-1]["number"] + 1
    body = canonical({"id": "forged", "name": "call:outcome", "chain": chain, "seq": seq, "number": number}).decode()
    with history.editing() as connection:
        connection.execute("INSERT INTO audit_records (number, body, hash) VALUES (?, ?, ?)", (number, body, bytes(32)))


def test_an_appended_record_is_found(history: History) -> None:
    """A record without the right hash doesn't follow from the last."""
    forged(history, history.chain, 9)

    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, 9, 20)]


def test_a_record_that_stands_twice_is_foreign(history: History) -> None:
    """A copy at the end, with the table's constraints gone, is no part of its chain."""
    history.loosen()
    with history.editing() as connection:
        connection.execute("INSERT INTO audit_records (number, body, hash) SELECT 20, body, hash FROM audit_records WHERE number = 12")

    assert [(kind, number) for kind, _, _, number in places(history.wrong())] == [(Kind.RECORD_FOREIGN, 20)]


def test_a_tail_without_a_checkpoint_is_noted(history: History) -> None:
    """What no checkpoint covers yet is no failure: its process may live, or have crashed."""
    history.append(2)
    verified = history.verified()

    assert verified.holds
    assert [(one.kind, one.chain, one.seq, one.until) for one in verified.findings] == [(Kind.TAIL_UNCOVERED, history.chain, 9, 10)]


def test_a_chain_older_than_checkpoints_is_covered_by_the_next(empty: History) -> None:
    """Records from before there were chains have no checkpoint; the next chain's sealed first record names their end."""
    old = empty
    old.chain = "before-chains"
    old.append(3)
    with old.editing() as connection:
        connection.execute("UPDATE audit_chains SET closed_at = opened_at")
    alone = old.verified()
    old.administer()
    followed = old.verified()

    assert alone.holds
    assert [one.kind for one in alone.findings] == [Kind.TAIL_UNCOVERED]
    assert followed.holds
    assert list(followed.findings) == []


def test_a_record_deleted_from_an_uncovered_tail_is_missed_by_its_number(history: History) -> None:
    """Numbers have no gaps: where a later record of another chain stands, one that is gone is missed."""
    history.append(2)
    history.administer()
    remove(history, record_of(history, 10)["number"])

    assert [one.kind for one in history.wrong()] == [Kind.RECORD_MISSING]


@pytest.mark.parametrize("column", ["body", "signature"])
def test_an_edited_checkpoint_is_named(history: History, column: str) -> None:
    """A byte of a checkpoint is one finding: its signature is wrong."""
    with history.editing() as connection:
        query = f"SELECT {column} FROM audit_checkpoints WHERE chain = ? AND seq = 5"  # noqa: S608 - one of two names
        (held,) = connection.execute(query, (history.chain,)).fetchone()
    held = held.encode() if isinstance(held, str) else held
    history.rewrite(held, flipped(held, len(held) // 2))

    (found,) = history.wrong()
    assert found.kind is Kind.SIGNATURE_WRONG


@pytest.mark.parametrize(("of", "seq"), [("written", 5), ("administration", 3), ("administration", 4), ("closed", 4), ("closed", 7)])
def test_a_removed_checkpoint_is_named(history: History, of: str, seq: int) -> None:
    """The next checkpoint names it; and where one must have been made at the end, none is there."""
    chain = {"written": history.chain, "administration": ADMINISTRATION, "closed": first_chain(history)}[of]
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ? AND seq = ?", (chain, seq))

    assert places(history.wrong()) == [(Kind.CHECKPOINT_MISSING, chain, seq, None)]


@pytest.mark.parametrize("count", [992, 993])
def test_a_checkpoint_over_more_than_a_process_leaves_unsealed_is_named(history: History, count: int) -> None:
    """After a thousand records there must have been one: who has a chain sealed anew over more took it away."""
    history.append(count)
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ?", (history.chain,))
    history.checkpoint()

    assert [(one.kind, one.chain, one.seq) for one in history.wrong()] == (
        [(Kind.CHECKPOINT_MISSING, history.chain, 1_000)] if count == 993 else []
    )


def test_a_checkpoint_by_another_key_is_not_believed(history: History) -> None:
    """Who signs with a key of their own is told from who edits what was signed."""
    stranger = Signer(bytes(32))

    found = history.wrong(trusted=Trusted(stranger.public))
    assert {one.kind for one in found} == {Kind.KEY_UNKNOWN}
    assert len(found) == 7


def test_a_checkpoint_is_no_tombstone(history: History) -> None:
    """What the gateway signed for another purpose doesn't stand for records that somebody removed."""
    with history.editing() as connection:
        query = "INSERT INTO audit_tombstones (body, signature) SELECT body, signature FROM audit_checkpoints WHERE chain = ? AND seq = 5"
        connection.execute(query, (history.chain,))
    remove(history, *(record_of(history, seq)["number"] for seq in range(1, 6)))

    assert history.wrong()[0].kind is Kind.SIGNATURE_WRONG


@pytest.mark.parametrize("traits", [{"seq": 2**53 - 1, "previous": 2**53 - 1, "hash": "x"}, {"seq": "5"}, {"previous": 9}, {"chain": None}])
def test_what_is_signed_but_no_seal_is_not_believed(history: History, traits: dict[str, object]) -> None:
    """Who holds the key can sign anything; what no chain can be compared with is named."""
    members = {"kind": "checkpoint", "chain": history.chain, "seq": 8, "hash": "00", "previous": 5}
    seal = SIGNER._sign({**members, **traits})

    assert [one.kind for one in history.wrong(anchors=[seal])] == [Kind.SIGNATURE_WRONG]


def test_what_was_pruned_is_proven_by_its_tombstone(history: History, tmp_path: Path) -> None:
    """Two prunes of a chain leave it whole; with the archives at hand, what was removed is recomputed too."""
    assert history.prune(archive=tmp_path) == 5
    history.append(2)
    history.checkpoint()
    history.append()
    assert history.prune(archive=tmp_path) == 10
    verified = history.verified(archive=tmp_path)

    assert verified.holds
    assert {one.kind for one in verified.findings} == {Kind.TAIL_UNCOVERED}


def test_a_tombstone_that_was_made_elsewhere_is_named(history: History) -> None:
    """It is what the gateway signs, but in a copy: here nothing tells of it."""
    copy = History(history.database.copied())
    copy.chain = history.chain
    copy.prune()
    with copy.editing() as connection:
        (stone,) = connection.execute("SELECT body, signature FROM audit_tombstones").fetchall()
    with history.editing() as connection:
        connection.execute("INSERT INTO audit_tombstones (body, signature) VALUES (?, ?)", stone)
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ? AND seq < 5", (history.chain,))
    remove(history, *(row["number"] for row in history.records(history.chain)[:5]))

    found = [(one.kind, one.chain, one.seq, one.until) for one in history.wrong()]
    assert found == [(Kind.PRUNE_UNRECORDED, history.chain, 1, 5)]


def test_a_prune_whose_record_was_pruned_itself_holds(history: History) -> None:
    """What tells of it is gone with the changes from before that time."""
    history.prune()
    history.administer()
    history.administer()
    assert history.prune(ADMINISTRATION)

    assert history.wrong() == []
    with history.editing() as connection:
        bodies = [json.loads(body) for (body,) in connection.execute("SELECT body FROM audit_records WHERE name = 'audit:pruned'")]
    assert [body["pruned_chain"] for body in bodies] == [ADMINISTRATION]


def test_a_removed_tombstone_is_named(history: History) -> None:
    """Without it the beginning of the chain is missing."""
    history.prune()
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_tombstones")

    (found,) = history.wrong()
    assert (found.kind, found.chain, found.seq, found.until) == (Kind.RECORD_MISSING, history.chain, 1, 5)


def test_an_edited_tombstone_is_named(history: History) -> None:
    """Its signature is wrong, and that is the one finding."""
    history.prune()
    with history.editing() as connection:
        connection.execute("UPDATE audit_tombstones SET body = replace(body, '\"seq\":5', '\"seq\":6')")

    assert places(history.wrong()) == [(Kind.SIGNATURE_WRONG, history.chain, 6, None)]


def test_the_older_of_two_tombstones_is_missed(history: History) -> None:
    """Each must follow the one before."""
    history.prune()
    history.append(2)
    history.checkpoint()
    history.append()
    history.checkpoint()
    history.prune()
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_tombstones WHERE seq = 5")

    assert places(history.wrong()) == [(Kind.TOMBSTONE_MISSING, history.chain, 1, None)]


def test_records_yet_to_be_removed_are_noted(history: History) -> None:
    """A prune that was interrupted is no failure; an edit of what is left is."""
    rows = history.records(history.chain)[2:5]
    history.prune()
    with history.editing() as connection:
        for row in rows:
            connection.execute("INSERT INTO audit_records (number, body, hash) VALUES (?, ?, ?)", (row["number"], row["body"], row["hash"]))
    verified = history.verified()
    with history.editing() as connection:
        connection.execute(
            "UPDATE audit_records SET body = replace(body, 'call:outcome', 'call:0utcome') WHERE number = ?", (rows[1]["number"],)
        )

    assert verified.holds
    assert {one.kind for one in verified.findings} == {Kind.REMOVAL_UNFINISHED}
    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, 4, rows[1]["number"])]


def put_back(history: History, rows: list[dict[str, Any]]) -> None:
    """Store records again, with their indexes."""
    with history.editing() as connection:
        for row in rows:
            connection.execute("INSERT INTO audit_records (number, body, hash) VALUES (?, ?, ?)", (row["number"], row["body"], row["hash"]))


def test_records_invented_under_a_tombstone_are_named(history: History) -> None:
    """At the numbers that a finished prune freed: they don't lead to the hash that was signed."""
    gone = history.records(history.chain)[:5]
    history.prune()
    put_back(history, [row | {"body": row["body"].replace("at", "ta"), "hash": bytes(32)} for row in gone])

    assert {(one.kind, one.seq) for one in history.wrong()} == {(Kind.RECORD_ALTERED, seq) for seq in range(1, 6)}


def test_what_is_left_of_a_stretch_is_whole_up_to_the_tombstone(history: History) -> None:
    """The oldest are removed first: where a younger one is gone, somebody else took it, whether an older one was altered or not."""
    gone = history.records(history.chain)[:5]
    history.prune()
    put_back(history, gone[1:3])
    behind = [(one.kind, one.seq, one.until) for one in history.wrong()]
    put_back(history, gone[4:])

    assert behind == [(Kind.RECORD_MISSING, 4, 5)]
    assert [(one.kind, one.seq, one.until) for one in history.wrong()] == [(Kind.RECORD_MISSING, 4, 4)]


def test_what_is_left_of_a_stretch_follows_what_is_known(history: History) -> None:
    """A chain's first record, and the one after an older tombstone or checkpoint, must follow that, though nothing before it is left."""
    history.prune()
    history.append(4)
    history.checkpoint()
    history.append()
    gone = history.records(history.chain)[:7]
    history.prune()
    put_back(history, gone)
    alone = history.verified()
    remove(history, *(row["number"] for row in gone))
    put_back(history, [gone[0] | {"body": gone[0]["body"].replace('"7"', '"8"')}, *gone[1:]])

    assert {one.kind for one in alone.findings} == {Kind.REMOVAL_UNFINISHED, Kind.TAIL_UNCOVERED}
    assert places(history.wrong()) == [(Kind.RECORD_ALTERED, history.chain, 6, gone[0]["number"])]


def test_a_record_left_twice_is_foreign(history: History) -> None:
    """A copy under a tombstone is no part of what was being removed."""
    gone = history.records(history.chain)[3:5]
    history.prune()
    history.loosen()
    put_back(history, [*gone, gone[0] | {"number": 1_000}])

    assert [(one.kind, one.number) for one in history.wrong() if one.kind is not Kind.INDEX_WRONG] == [(Kind.RECORD_FOREIGN, 1_000)]


@pytest.mark.parametrize("content", [b"", b"no gzip"])
def test_an_altered_archive_is_named(history: History, tmp_path: Path, content: bytes) -> None:
    """Its tombstone holds the hash of its content."""
    history.prune(archive=tmp_path)
    (file,) = tmp_path.glob("*.gz")
    file.write_bytes(content)

    (found,) = history.wrong(archive=tmp_path)
    assert (found.kind, found.chain, found.seq, found.until) == (Kind.ARCHIVE_WRONG, history.chain, 1, 5)


def test_an_archive_that_is_not_there_is_noted(history: History, tmp_path: Path) -> None:
    """Archives may be kept elsewhere: what isn't at hand is told, and no failure."""
    history.prune(archive=tmp_path)
    (file,) = tmp_path.glob("*.gz")
    file.unlink()
    verified = history.verified(archive=tmp_path)

    assert verified.holds
    assert [one.kind for one in verified.findings] == [Kind.ARCHIVE_ABSENT]


@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM audit_ids WHERE value = '7' AND number = 12",
        "INSERT INTO audit_ids VALUES ('999', 12)",
        "INSERT INTO audit_ids VALUES ('999', 1000)",
        "UPDATE audit_ids SET number = 11 WHERE value = '1' AND number = 13",
    ],
)
def test_an_edited_index_of_ids_is_found(history: History, edit: str) -> None:
    """A record that can't be found any more by an ID that it tells of, or can by one that it doesn't, is named."""
    with history.editing() as connection:
        assert connection.execute(edit).rowcount == 1
    found = history.wrong()

    assert {one.kind for one in found} == {Kind.INDEX_WRONG}
    assert {one.number for one in found} <= {11, 12, 13, 1000}


@ON_SQLITE
def test_an_entry_without_a_number_is_no_record_s(history: History) -> None:
    """What stands in the index in a number's place is named, and nothing else."""
    with history.editing() as connection:
        connection.execute("UPDATE audit_ids SET number = 'twelve' WHERE value = '7' AND number = 12")

    assert [(one.kind, one.number) for one in history.wrong()] == [(Kind.INDEX_WRONG, None), (Kind.INDEX_WRONG, 12)]


@ON_SQLITE
def test_an_entry_that_is_no_text_is_not_the_record_s(history: History) -> None:
    """A BLOB of the same bytes isn't found by an ID."""
    with history.editing() as connection:
        connection.execute("UPDATE audit_ids SET value = CAST(value AS BLOB) WHERE value = '7' AND number = 12")

    assert [(one.kind, one.number) for one in history.wrong()] == [(Kind.INDEX_WRONG, 12), (Kind.INDEX_WRONG, 12)]


def test_a_restored_old_copy_is_found_with_an_anchor(history: History) -> None:
    """Alone it holds; an anchor names what it lacks."""
    old = history.database.copied()
    history.append(2)
    history.checkpoint()
    history.administer()
    anchors = history.anchors()
    assert history.wrong(anchors=anchors) == []
    history.database = old

    assert history.wrong() == []
    found = {(one.kind, one.chain, one.seq, one.until) for one in history.wrong(anchors=anchors)}
    assert found == {(Kind.CHAIN_CUT, history.chain, 9, 10), (Kind.CHAIN_CUT, ADMINISTRATION, 5, 5)}


def test_a_fork_is_found_with_an_anchor(history: History) -> None:
    """Where an old copy went on, with other records in the places of those that an anchor names, they are told."""
    old = history.database.copied()
    history.append(2)
    history.checkpoint()
    anchors = [one for one in history.anchors() if history.chain in one.body]
    history.database = old
    history.append(2)
    history.checkpoint()

    found = [(one.kind, one.chain, one.seq, one.until) for one in history.wrong(anchors=anchors)]
    assert found == [(Kind.RECORDS_ALTERED, history.chain, 9, 10)]


def test_the_newest_checkpoint_removed_is_found_with_an_anchor(history: History) -> None:
    """The anchor was a checkpoint: it is missed."""
    anchors = history.anchors()
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ? AND seq = 8", (history.chain,))

    assert history.wrong() == []
    assert places(history.wrong(anchors=anchors)) == [(Kind.CHECKPOINT_MISSING, history.chain, 8, None)]


def test_an_anchor_of_what_was_pruned_holds(history: History) -> None:
    """A tombstone beyond it stands for it."""
    anchors = history.anchors()
    history.append()
    history.prune()

    assert history.wrong(anchors=anchors) == []


def altered_and_pruned(history: History, archive: Path | None) -> list[Seal]:
    """What who holds the key does: alter a record, hash and seal the chain anew, and prune it; gives the anchors from before."""
    anchors = [seal for seal in history.anchors() if history.chain in seal.body]
    chain = history.chain
    history.append(3)
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ?", (chain,))
    rehash(history, chain, 3, '"7"', '"8"')
    history.checkpoint()
    history.append()
    history.prune(archive=archive)
    return anchors


def test_an_anchor_at_the_end_of_what_was_pruned_is_compared(history: History) -> None:
    """The tombstone must name the hash that was signed before."""
    history.checkpoint()
    anchors = history.anchors()
    with history.editing() as connection:
        connection.execute("DELETE FROM audit_checkpoints WHERE chain = ?", (history.chain,))
    rehash(history, history.chain, 3, '"7"', '"8"')
    history.checkpoint()
    history.append()
    history.prune()

    assert history.wrong() == []
    assert [(one.kind, one.chain, one.seq) for one in history.wrong(anchors=anchors)] == [(Kind.RECORDS_ALTERED, history.chain, 8)]


def test_an_anchor_within_what_was_pruned_is_compared_with_the_archive(history: History, tmp_path: Path) -> None:
    """Without the archive nothing tells; with it, the records must lead to the anchor."""
    anchors = altered_and_pruned(history, tmp_path)

    assert history.wrong(anchors=anchors) == []
    assert history.wrong(archive=tmp_path) == []
    (found,) = history.wrong(anchors=anchors, archive=tmp_path)
    assert found.kind is Kind.ARCHIVE_WRONG
    assert "anchor of record 8" in found.text


def test_a_forged_anchor_is_not_believed(history: History) -> None:
    """Whoever can write the file of anchors can't sign."""
    (one, *others) = history.anchors()

    (found,) = history.wrong(anchors=[Seal(one.body.replace('"seq":', '"seq":1'), one.signature), *others])
    assert found.kind is Kind.SIGNATURE_WRONG


def test_anchors_are_read_as_they_are_written(history: History) -> None:
    """A line for each, and empty lines between them don't matter."""
    anchors = history.anchors()
    lines = [line for one in anchors for line in (anchor_line(one).encode(), b"\n")]

    assert [one for _, one in read_anchors(lines)] == anchors
    assert set(json.loads(lines[0])) == {"body", "signature"}


@pytest.mark.parametrize("line", [b"x", b"[]", b"{}", b'{"body": 1, "signature": ""}', b'{"body": "", "signature": "-"}'])
def test_a_line_that_is_no_anchor_is_refused(line: bytes) -> None:
    """It is named by its number."""
    with pytest.raises(AnchorUnreadable, match="line 2"):
        list(read_anchors([b"\n", line]))


@ON_SQLITE
def test_a_file_that_can_not_be_read_on_is_damaged(history: History) -> None:
    """A page that isn't SQLite's any more is one finding, after the last record that could be read."""
    history.append(200)
    history.checkpoint()
    one, path = record_of(history, 100), file_of(history)
    with history.editing() as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    held = bytearray(path.read_bytes())
    page = held.index(one["body"].encode()) // size * size
    held[page : page + size] = bytes(size)
    path.write_bytes(held)

    (found,) = history.wrong()
    assert found.kind is Kind.DATABASE_DAMAGED


def test_notes_leave_room_for_failures() -> None:
    """However many notes came first, a failure is kept; and however many failures did, a note is."""
    findings = Findings()
    for _ in range(1_500):
        findings.add(Finding(Kind.TAIL_UNCOVERED, "noted"))
    for _ in range(1_500):
        findings.add(Finding(Kind.RECORD_MISSING, "missing"))
    last = findings.add(Finding(Kind.RECORD_MISSING, "found elsewhere"))
    findings.withdraw(last)

    kept = [one.kind for one in findings]
    assert (kept.count(Kind.TAIL_UNCOVERED), kept.count(Kind.RECORD_MISSING)) == (1_000, 1_000)
    assert (findings.failures, findings.more) == (1_500, 1_000)


def test_many_findings_are_counted_and_a_thousand_kept(history: History) -> None:
    """Memory stays bounded however much is wrong."""
    history.append(1_500)
    history.checkpoint()
    with history.editing() as connection:
        connection.execute("UPDATE audit_records SET hash = ?", (bytes(32),))
    verified = history.verified()

    assert len(list(verified.findings)) == 1_000
    assert verified.findings.failures == 1_000 + verified.findings.more
    assert all(isinstance(one, Finding) for one in verified.findings)
