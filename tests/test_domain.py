"""The values that travel, first of all the one that must not show."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from rich.console import Console

from app.domain import (
    Caller,
    Garbled,
    Grant,
    Linked,
    RateLimited,
    Refused,
    TimedOut,
    TokenKind,
    TokenRejected,
    TokenValue,
    Unreachable,
    new_id,
    utc_now,
)
from app.vault import NewToken

SECRET = "a-secret-value-0001"


def rich_text(value: object) -> str:
    """What rich prints of a value."""
    console = Console(record=True, width=200, quiet=True)
    with console.capture():
        console.print(value, {"value": value})
    return console.export_text()


@pytest.mark.parametrize(
    "rendered",
    [
        pytest.param(str, id="str"),
        pytest.param(repr, id="repr"),
        pytest.param(ascii, id="ascii"),
        pytest.param(lambda value: f"{value} {value!r} {value!s:>40} {value:>40} {value:d}", id="format"),
        pytest.param(lambda value: "%s %r" % (value, value), id="percent"),  # noqa: UP031 - this is what is tested
        pytest.param(lambda value: str([value, {"value": value}]), id="within others"),
        pytest.param(lambda value: repr(NewToken("shop", TokenKind.ACCOUNT, value)), id="within a dataclass"),
        pytest.param(lambda value: json.dumps({"value": value}, default=str), id="JSON by str"),
        pytest.param(lambda value: json.dumps({"value": value}, default=repr), id="JSON by repr"),
        pytest.param(lambda value: str(ValueError(value)), id="an exception"),
        pytest.param(rich_text, id="rich"),
        pytest.param(lambda value: str(dir(value)), id="dir"),
    ],
)
def test_no_rendering_shows_a_tokens_value(rendered: Callable[[TokenValue], str]) -> None:
    """However a value is put into text, the text doesn't hold it."""
    assert SECRET not in rendered(TokenValue(SECRET))


@settings(deadline=None)
@given(st.text(min_size=1), st.sampled_from(["", "s", ">9", "<40", "^", "x", "!r", ".3"]))
def test_a_value_is_always_rendered_alike(secret: str, spec: str) -> None:
    """Renderings don't depend on the value, not even by its length."""
    value = TokenValue(secret)

    assert {str(value), repr(value), format(value, spec)} == {"•••"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_value_is_not_pickled(protocol: int) -> None:
    """No pickle holds a value, by itself or within something else."""
    for pickled in (TokenValue(SECRET), NewToken("shop", TokenKind.ACCOUNT, TokenValue(SECRET))):
        with pytest.raises(TypeError, match="a token's value is not pickled"):
            pickle.dumps(pickled, protocol)


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(json.dumps, id="JSON"),
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(vars, id="vars"),
        pytest.param(lambda value: dataclasses.asdict(NewToken("shop", TokenKind.ACCOUNT, value)), id="asdict"),
        pytest.param(lambda value: TypeAdapter(dict[str, object]).dump_json({"value": value}), id="pydantic"),
    ],
)
def test_what_would_open_a_value_fails(work: Callable[[TokenValue], object]) -> None:
    """What would take a value apart or double it fails, without showing it."""
    with pytest.raises((TypeError, ValueError)) as failed:
        work(TokenValue(SECRET))

    assert SECRET not in str(failed.value)


def test_a_value_is_revealed_by_asking_for_it() -> None:
    """`reveal`, which only the one header and scrubbing call, gives the plain value."""
    assert TokenValue(SECRET).reveal() == SECRET


def test_a_value_has_room_for_nothing_else() -> None:
    """A value can't be given attributes, nor have a dictionary that a debugger would print."""
    with pytest.raises(AttributeError):
        TokenValue(SECRET).note = "x"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("grant", "covered"),
    [
        (Grant("t", "shop"), True),
        (Grant("t", "shop", frozenset({"link-orders", "other"})), True),
        (Grant("t", "shop", frozenset({"other"})), False),
        (Grant("t", "shop", frozenset()), False),
        (Grant("t", "shop", frozenset({"link"})), False),
    ],
)
def test_a_grant_covers_what_it_names(grant: Grant, covered: bool) -> None:  # noqa: FBT001 - a parameter
    """A grant allows the operations that it names, all if it names none in particular, and none if its list is empty."""
    assert grant.covers("link-orders") is covered


def test_the_values_are_frozen() -> None:
    """What travels through the house can't be changed on the way."""
    caller = Caller("c", "order-service", "k")

    with pytest.raises(dataclasses.FrozenInstanceError):
        caller.role = None  # type: ignore[misc]


@pytest.mark.parametrize(
    ("outcome", "uncertain"),
    [
        (Linked((1,)), False),
        (Refused(400, ""), False),
        (Refused(404, ""), False),
        (Refused(500, ""), True),
        (Refused(503, ""), True),
        (TokenRejected(401, ""), False),
        (RateLimited(None), False),
        (Unreachable("no connection", uncertain=False), False),
        (Unreachable("broke", uncertain=True), True),
        (TimedOut("no answer"), True),
        (Garbled("not JSON", 200), True),
    ],
)
def test_an_outcome_says_whether_the_work_may_be_done(outcome: Linked | Refused, uncertain: bool) -> None:  # noqa: FBT001 - a parameter
    """Only an outcome that leaves it open whether Flxpoint did the work is uncertain."""
    assert outcome.uncertain is uncertain


def test_ids_are_unique_and_in_order() -> None:
    """A later ID is a greater one, and each is a UUIDv7 in its canonical form."""
    ids = [new_id() for _ in range(1_000)]

    assert ids == sorted(set(ids))
    assert all(str(uuid.UUID(one)) == one and one[14] == "7" for one in ids)


def test_times_are_utc_to_the_microsecond() -> None:
    """A time has always the same form, so that times sort as texts, and is the time in UTC."""
    before, text, after = datetime.now(UTC), utc_now(), datetime.now(UTC)

    assert len(text) == 32
    assert text.endswith("+00:00")
    assert before <= datetime.fromisoformat(text) <= after
