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


@pytest.mark.parametrize(
    ("headers", "wait", "later"),
    [
        (["respond-async"], 0, "respond-async"),
        (["Respond-Async; foo=bar"], 0, "respond-async"),
        (['respond-async=""'], 0, "respond-async"),
        (["respond-async, wait=10"], 10, "respond-async, wait=10"),
        (["wait=500", "respond-async"], 120, "respond-async, wait=120"),
        (["wait=soon, respond-async"], 0, "respond-async"),
    ],
)
def test_a_caller_may_prefer_an_answer_later(headers: list[str], wait: float, later: str) -> None:
    """With `respond-async` the caller waits for as long as it says, or not at all."""
    preferences = read_preferences(headers, default=30, longest=120)

    assert (preferences.respond_async, preferences.wait, preferences.applied_later) == (True, wait, later)


@pytest.mark.parametrize("header", ["respond-async=no", "respond", "foo=respond-async"])
def test_what_only_looks_like_it_is_ignored(header: str) -> None:
    """A preference of another name, or with a value that this one doesn't have, changes nothing."""
    assert read_preferences([header], default=30, longest=120) == Preferences(30)


@given(st.lists(st.text()))
def test_no_preference_fails(headers: list[str]) -> None:
    """Whatever stands in the header, there is a wait within the bounds."""
    assert 0 <= read_preferences(headers, default=30, longest=120).wait <= 120
