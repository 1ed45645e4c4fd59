"""What is read of a spool's bytes, in whatever condition: every durable entry that is whole, and none of an older use."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from app.audit.frames import Damage, framed, read

OLDER = [[b"older-%d-%d" % (group, number) for number in range(3)] for group in range(9)]
WRITES = [[b""], [b"one", b"two", b"three"], [b"four"], [b"five", b"six"]]
DURABLE = [b"one", b"two", b"three", b"four"]
LAST = [b"five", b"six"]


def written(content: bytearray, writes: list[list[bytes]], first: int) -> int:
    """Have these writes in the bytes, from their beginning on; gives where they end."""
    end = 0
    for write, entries in enumerate(writes, first):
        frames = framed(entries, write=write, since=end)
        content[end : end + len(frames)] = frames
        end += len(frames)
    return end


def used_before() -> tuple[bytearray, int]:
    """Entries before which longer ones stood that were on record; and where they end."""
    content = bytearray(4_096)
    written(content, [[b""], *OLDER], 1)
    return content, written(content, WRITES, 20)


def test_what_was_written_is_read_and_nothing_older() -> None:
    """Every entry once, in their order; frames of the last use lie whole behind the end and aren't entries."""
    content, end = used_before()
    found = read(bytes(content))

    assert (found.entries, found.end, found.write) == ([*DURABLE, *LAST], end, 23)
    assert (found.damages, found.torn) == ([], False)
    assert OLDER[-1][-1] in content


def test_nothing_was_ever_written() -> None:
    """Zeros alone are a new file."""
    found = read(bytes(100))

    assert (found.entries, found.end, found.damages, found.torn) == ([], 0, [], False)


@settings(deadline=None)
@given(st.data())
def test_one_wrong_bit_costs_one_entry_at_most(data: st.DataObject) -> None:
    """In a length, a mark or an entry: it is damage and the others are found; in the last write, which may be torn, those before it."""
    content, end = used_before()
    last = end - len(framed(LAST, write=23, since=0))
    place = data.draw(st.integers(0, end - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    found = read(bytes(content))
    missing = [one for one in [*DURABLE, *LAST] if one not in found.entries]

    assert found.entries == [one for one in [*DURABLE, *LAST] if one in found.entries]
    assert [one.first <= place < one.end for one in found.damages] == ([True] if place < last else [])
    assert len(missing) <= 1 if place < last else missing in (LAST, LAST[1:])


@settings(deadline=None)
@given(first=st.integers(0, 200), length=st.integers(1, 60))
def test_damage_of_any_length_costs_what_it_touches(first: int, length: int) -> None:
    """Zeros, too, where a block was lost: whatever a later write follows was durable, and the rest of it is found."""
    content, end = used_before()
    last = end - len(framed(LAST, write=23, since=0))
    until = min(first + length, last)
    first = min(first, until - 1)
    before = bytes(content)
    content[first:until] = bytes(until - first)
    found = read(bytes(content))
    touched = [one for one in DURABLE if content.find(one) != before.find(one)]

    assert not set(touched) & set(found.entries)
    assert found.entries[-2:] == LAST
    assert bytes(content) == before or len(found.damages) >= 1


def test_what_is_behind_damage_goes_on_at_its_end() -> None:
    """The next write comes behind all that was found, so that nothing is overwritten that isn't on record."""
    content, end = used_before()
    content[content.index(b"two")] ^= 1
    found = read(bytes(content))

    assert (found.end, found.write) == (end, 23)
    assert found.damages == [Damage(content.index(b"uwo") - 28, content.index(b"uwo") + 3)]


def test_what_an_unfinished_write_left_is_not_taken_for_entries() -> None:
    """A torn write whose later frames are whole is overwritten by a shorter one: they lie behind that and are older."""
    content = bytearray(1_000)
    end = written(content, [[b""], [b"one"]], 1)
    torn = framed([b"torn", b"whole"], write=3, since=end)
    content[end : end + len(torn)] = torn
    content[end + 28] ^= 1
    before = read(bytes(content))
    after = framed([b"next"], write=4, since=end)
    content[end : end + len(after)] = after

    assert (before.entries, before.end, before.torn, before.damages) == ([b"one"], end, True, [])
    assert read(bytes(content)).entries == [b"one", b"next"]
