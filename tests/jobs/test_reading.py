"""Lists of IDs, from files and from JSON."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from io import StringIO
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalogue import LARGEST_ID
from app.errors import GatewayError, ParameterInvalid, RequestMalformed
from app.jobs import MOST_IDS, ids_of_csv, ids_of_list, ids_of_text

IDS = st.lists(st.integers(1, LARGEST_ID), max_size=50)
ENDS = st.sampled_from(["\n", "\r\n"])


@given(ids=IDS, end=ENDS, mark=st.booleans(), last=st.booleans())
def test_every_id_of_a_text_is_read(ids: list[int], end: str, *, mark: bool, last: bool) -> None:
    """In its order, repeated ones too, with either line end, with a byte order mark or without, the last line ended or not."""
    text = end.join(map(str, ids)) + end * last
    assert list(ids_of_text(text.encode("utf-8-sig" if mark else "utf-8"))) == ids


@given(
    rows=st.lists(
        st.tuples(st.integers(1, LARGEST_ID), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"))), max_size=30
    ),
    end=ENDS,
)
def test_every_row_of_a_csv_file_has_its_id(rows: list[tuple[int, str]], end: str) -> None:
    """Whatever stands in the other columns, but for carriage returns, which the writer doesn't quote."""
    text = StringIO()
    csv.writer(text, lineterminator=end).writerows(rows)

    assert list(ids_of_csv(text.getvalue().encode(), header=False)) == [row[0] for row in rows]


@given(text=st.binary(max_size=200), header=st.sampled_from([None, True, False]))
def test_any_bytes_are_read_or_refused(text: bytes, *, header: bool | None) -> None:
    """What comes out are IDs; what can't be read is refused with its line."""
    reads: list[Callable[[], Iterator[int]]] = [lambda: ids_of_text(text), lambda: ids_of_csv(text, header=header)]
    lines = range(1, text.count(b"\n") + 2)

    assert all(1 <= one <= LARGEST_ID if kind == "id" else one in lines for read in reads for kind, one in found(read))


def found(read: Callable[[], Iterator[int]]) -> Iterator[tuple[str, int]]:
    """The IDs that are read, and the line that is refused."""
    try:
        yield from (("id", one) for one in read())
    except (ParameterInvalid, RequestMalformed) as error:
        yield "line", cast("int", error.members["line"])


@pytest.mark.parametrize(
    ("text", "header", "ids"),
    [
        (b"order\n7\n", None, [7]),
        (b'"Order"\n7\n', None, [7]),
        (b"Bestellung\n7\n", None, [7]),
        (b"7\n8\n", None, [7, 8]),
        (b"7\n8\n", True, [8]),
        (b"\n\norder\n7\n", None, [7]),
        (b"\n \norder\n7\n", True, [7]),
        (b"order\n", None, []),
        (b"", True, []),
    ],
)
def test_a_header_is_passed_over(text: bytes, *, header: bool | None, ids: list[int]) -> None:
    """The first row is one if it begins with a letter, or if it is said to be one."""
    assert list(ids_of_csv(text, header=header)) == ids


@pytest.mark.parametrize(("text", "line"), [(b"order\n7\n", 1), (b"7\norder\n8\n", 2), (b"#7\n8\n", 1), (b",7\n8\n", 1)])
def test_what_is_no_header_is_a_wrong_id(text: bytes, line: int) -> None:
    """Where there is none by what was said, behind the first row, and where it begins with no letter."""
    with pytest.raises(ParameterInvalid) as refused:
        list(ids_of_csv(text, header=False if line == 1 else None))

    assert refused.value.members == {"line": line}


def test_one_id_after_the_other_is_read() -> None:
    """What comes before a wrong one is there before anybody looks further."""
    ids = ids_of_text(b"7\n8\nx\n")

    assert [next(ids), next(ids)] == [7, 8]
    with pytest.raises(ParameterInvalid):
        next(ids)


@pytest.mark.parametrize("read", [lambda: ids_of_list([7] * (MOST_IDS + 1)), lambda: ids_of_text(b"7\n" * (MOST_IDS + 1))])
def test_repeated_ids_count(read: Callable[[], Iterator[int]]) -> None:
    """100,001 are too many, though they be all the same."""
    with pytest.raises(GatewayError) as refused:
        list(read())

    assert refused.value.members == {"max_items": MOST_IDS}


def test_a_hundred_thousand_are_not_too_many() -> None:
    """The last one is read, too."""
    assert len(list(ids_of_text(b"7\n" * MOST_IDS))) == len(list(ids_of_list([7] * MOST_IDS))) == MOST_IDS
