"""Canonical JSON against an implementation of RFC 8785 that isn't ours, for everything that records can hold."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from app.audit.canonical import canonical
from app.audit.records import RefusalsCounted, call_outcome, call_refused
from app.domain import Linked
from app.errors import GatewayError
from tests.calls import make_asked, make_call

LARGEST_EXACT = 2**53 - 1
KEYS = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=12)
TEXTS = st.text() | st.text(st.characters(max_codepoint=0x9F)) | st.text(st.characters(min_codepoint=0x10000))
WHOLE = st.integers(-LARGEST_EXACT, LARGEST_EXACT)
MILLISECONDS = st.integers(0, 10**12).map(lambda microseconds: microseconds / 1_000)
PLAIN = st.none() | st.booleans() | WHOLE | TEXTS
VALUES = PLAIN | st.lists(TEXTS) | st.dictionaries(KEYS, PLAIN) | st.lists(st.dictionaries(KEYS, PLAIN))


def milliseconds_of(seconds: float) -> Any:
    """What a record makes of a wait."""
    return call_outcome(make_call(), code="ok", queued=seconds).members["queue_ms"]


@given(st.dictionaries(KEYS, VALUES))
def test_what_records_hold_is_written_as_the_rfc_says(members: dict[str, Any]) -> None:
    """Keys in order, every control character and every plane of Unicode, nested values: byte for byte."""
    assert canonical(members) == rfc8785.dumps(members)


@given(MILLISECONDS | st.floats(0, 10**7))
def test_waits_are_written_as_the_rfc_says(seconds: float) -> None:
    """Milliseconds to three decimals have one form, whole ones without a point."""
    members = {"queue_ms": milliseconds_of(seconds)}

    assert canonical(members) == rfc8785.dumps(members)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, b"0"),
        (-0.0, b"0"),
        (0.0000004, b"0"),
        (0.000001, b"0.001"),
        (0.0015, b"1.5"),
        (0.002, b"2"),
        (120.0, b"120000"),
        (1e7, b"10000000000"),
    ],
)
def test_a_wait_has_one_form(seconds: float, written: bytes) -> None:
    """Whole milliseconds are whole numbers, and the least that is told is a thousandth of one."""
    assert canonical({"ms": milliseconds_of(seconds)}) == b'{"ms":' + written + b"}"


@given(st.integers(1, 2**63 - 1), TEXTS, TEXTS)
def test_a_record_is_canonical_whatever_came_in(number: int, origin: str, reason: str) -> None:
    """The whole record of a refused call, with the largest IDs, is what the RFC makes of it, and is read back as it was."""
    call = make_call(number)
    asked = make_asked(call.caller, origin=origin, address=origin)
    for record in (
        call_refused(asked, GatewayError(reason), read=(call.parameter, call.ids), token=None),
        call_outcome(call, code="ok", linked=Linked((number,)), queued=0.0123, upstream=1.0),
    ):
        body = canonical(record.members)

        assert body == rfc8785.dumps(dict(record.members))
        assert json.loads(body) == record.members


@given(st.binary(min_size=1))
def test_no_header_breaks_a_record(value: bytes) -> None:
    """What comes in headers is read as Latin-1, so it can't hold half of a surrogate pair, and has a canonical form."""
    record = RefusalsCounted(address=value.decode("latin-1"), code="not-found", count=1).record()

    assert canonical(record.members) == rfc8785.dumps(dict(record.members))


def test_what_is_no_unicode_has_no_canonical_form() -> None:
    """Half of a surrogate pair is refused (RFC 8785, section 3.2.2.2), not written as something else."""
    with pytest.raises(TypeError):
        canonical({"by": "command:\udcff"})
