"""The trace of a request: as `traceparent` says it, where it says it rightly."""

from __future__ import annotations

import pytest

from app.api.traces import trace_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-00",
        f" 00-{TRACE}-{PARENT}-01\t",
        f"cc-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-will-bring",
    ],
)
def test_a_valid_header_names_its_trace(value: str) -> None:
    """Version 00 is read, and later ones as far as they are alike."""
    assert trace_id_of([value]) == TRACE


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01"],
        [f"00-{'0' * 32}-{PARENT}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
        [f"00-{TRACE.upper()}-{PARENT}-01"],
        [f"00-{TRACE[1:]}-{PARENT}-01"],
        [f"00-{TRACE}-{PARENT}-01-more"],
        [f"00-{TRACE}-{PARENT}-01-"],
        [f"cc-{TRACE}-{PARENT}-01more"],
        [f"ff-{TRACE}-{PARENT}-01"],
        [f"00-{TRACE}-{PARENT}"],
        [f"00-{TRACE[:-1]}\u0661-{PARENT}-01"],
        [f"00-{TRACE}-{PARENT}-01\n"],
    ],
)
def test_what_is_not_valid_is_ignored(values: list[str]) -> None:
    """An absent, repeated or broken header gives no trace: a record holds a right ID or none."""
    assert trace_id_of(values) is None
