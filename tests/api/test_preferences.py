"""The header `Prefer`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.preferences import Preferences, read_preferences


@pytest.mark.parametrize(
    ("headers", "wait", "applied"),
    [
        ([], 30, None),
        (["wait=10"], 10, "wait=10"),
        (["wait=0"], 0, "wait=0"),
        (["WAIT = 10"], 10, "wait=10"),
        (['wait="10"'], 10, "wait=10"),
        (["wait=500"], 120, "wait=120"),
        (["respond-async, wait=10"], 10, "wait=10"),
        (["respond-async"], 30, None),
        (["wait=10; foo=bar"], 10, "wait=10"),
        (["return=minimal", "wait=7"], 7, "wait=7"),
        (["wait=5, wait=9"], 5, "wait=5"),
        (["wait=soon"], 30, None),
        (["wait=-1"], 30, None),
        (["wait=1.5"], 30, None),
        (["wait="], 30, None),
        (["wait"], 30, None),
        (["wait=99999999999999999999"], 30, None),
        ([",;=,"], 30, None),
    ],
)
def test_a_preference_is_heeded_clamped_or_ignored(headers: list[str], wait: float, applied: str | None) -> None:
    """A wait that makes sense counts, at most the longest; anything else is as if it weren't there (RFC 7240)."""
    assert read_preferences(headers, default=30, longest=120) == Preferences(wait, applied)


@given(st.lists(st.text()))
def test_no_preference_fails(headers: list[str]) -> None:
    """Whatever stands in the header, there is a wait within the bounds."""
    assert 0 <= read_preferences(headers, default=30, longest=120).wait <= 120
