from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.callers.claims import Declared, credential_id_of, texts_of
from app.callers.directory import Known
from app.domain import Caller


def known(**callers: Mapping[str, str]) -> list[Known]:
    """Callers of these names, with the claims that they declare."""
    return [Known(Caller(id=name, name=name, credential_id=""), claims) for name, claims in callers.items()]


def names(claims: dict[str, Any], **callers: Mapping[str, str]) -> list[str]:
    """Whose a JWT with these claims is."""
    return [caller.name for caller in Declared(known(**callers)).callers_of(claims)]


def test_all_declared_claims_must_match() -> None:
    """A JWT is the caller's whose every claim it has, and may have more."""
    declared = {"azp": "shop", "tenant": "north"}

    assert names({"azp": "shop", "tenant": "north", "more": 1}, shop=declared) == ["shop"]
    assert names({"azp": "shop"}, shop=declared) == []
    assert names({"azp": "shop", "tenant": "south"}, shop=declared) == []


def test_a_caller_without_claims_has_no_jwt() -> None:
    """Declaring nothing isn't met by everything."""
    assert names({"azp": "shop"}, keys_only={}) == []


def test_every_caller_that_matches_is_found() -> None:
    """That two match is for the verifier to refuse."""
    assert names({"azp": "shop", "role": ["a", "b"]}, one={"azp": "shop"}, two={"role": "b"}, three={"role": "c"}) == ["one", "two"]


def test_a_text_that_a_list_holds_twice_is_one() -> None:
    """A role that was given twice makes no two callers of one."""
    assert names({"role": ["a", "a"]}, one={"role": "a"}) == ["one"]


@given(
    st.dictionaries(st.sampled_from("pqr"), st.sampled_from("abc") | st.lists(st.sampled_from("abc"), max_size=2), max_size=3),
    st.dictionaries(st.sampled_from("uvwxyz"), st.dictionaries(st.sampled_from("pqr"), st.sampled_from("abc"), max_size=3)),
)
def test_callers_are_those_all_of_whose_claims_match(claims: dict[str, Any], callers: dict[str, dict[str, str]]) -> None:
    """However callers are arranged, they are found as if each were looked at."""
    expected = [name for name, declared in callers.items() if declared and all(one in claims.get(key, ()) for key, one in declared.items())]

    assert sorted(names(claims, **callers)) == sorted(expected)


@pytest.mark.parametrize(
    ("claim", "texts"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([], ()),
        (["a", 1], ()),
        (["a", None], ()),
        ([["a"]], ()),
        (True, ()),
        (1, ()),
        (1.0, ()),
        (None, ()),
        ({"a": "a"}, ()),
        ("É", ("É",)),
    ],
)
def test_only_texts_and_lists_of_texts_match(claim: Any, texts: tuple[str, ...]) -> None:
    """Numbers, truths, objects and mixed lists match nothing: `true` isn't "true", and 1 isn't "1"."""
    assert texts_of({"claim": claim}, "claim") == texts


@pytest.mark.parametrize("claim", [True, 1, 1.0, None, ["1", 1], {"1": "1"}])
@pytest.mark.parametrize("wanted", ["1", "1.0", "true", "True", "None", "null", ""])
def test_what_is_no_text_is_never_taken_for_one(claim: Any, wanted: str) -> None:
    """However a number or a truth would be written, no declared text is it."""
    assert names({"claim": claim}, shop={"claim": wanted}) == []


def test_texts_are_compared_by_their_code_points() -> None:
    """Neither case nor Unicode's other spellings of the same are taken for equal."""
    assert names({"azp": "café"}, shop={"azp": "café"}) == ["shop"]
    assert names({"azp": "cafe\u0301"}, shop={"azp": "caf\u00e9"}) == []
    assert names({"azp": "Shop"}, shop={"azp": "shop"}) == []
    assert names({"azp": "shop "}, shop={"azp": "shop"}) == []


@pytest.mark.parametrize(
    ("claims", "name", "texts"),
    [
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", ("a",)),
        ({"a": {"b": {"c": "x"}}}, "a.b.c", ("x",)),
        ({"a": {"b.c": "x"}}, "a.b.c", ("x",)),
        ({"a.b": "literal", "a": {"b": "nested"}}, "a.b", ("literal",)),
        ({"a.b": 1, "a": {"b": "nested"}}, "a.b", ()),
        ({"https://x.example/role": "r"}, "https://x.example/role", ("r",)),
        ({"a": "x"}, "a.b", ()),
        ({"a": ["b"]}, "a.b", ()),
        ({"a": {"": "x"}}, "a.", ()),
        ({"": {"a": "x"}}, ".a", ("x",)),
        ({}, "a.b", ()),
    ],
)
def test_dots_lead_into_objects_unless_a_claim_has_that_very_name(claims: dict[str, Any], name: str, texts: tuple[str, ...]) -> None:
    """The literal name decides wherever there is one, even when what it holds matches nothing."""
    assert texts_of(claims, name) == texts


@pytest.mark.parametrize(
    ("sub", "shown"),
    [
        ("user-1", "jwt:user-1"),
        ("auth0|5f7c", "jwt:auth0|5f7c"),
        ("a b", "jwt:a%20b"),
        ("a%20b", "jwt:a%2520b"),
        ("é\n", "jwt:%C3%A9%0A"),
        ("\ud800", "jwt:%ED%A0%80"),
        ("", "jwt:"),
        (None, "jwt:"),
        (5, "jwt:"),
    ],
)
def test_a_record_names_the_subject(sub: Any, shown: str) -> None:
    """What isn't visible ASCII is escaped, so that no two subjects look the same and no line breaks."""
    assert credential_id_of({"sub": sub}) == shown


@given(st.text(st.characters(codec=None), max_size=400), st.text(max_size=400))
def test_subjects_stay_apart_and_short(one: str, other: str) -> None:
    """A credential's ID is visible ASCII, at most 117 characters, and another for each subject."""
    shown = credential_id_of({"sub": one})

    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 117
    assert (shown == credential_id_of({"sub": other})) is (one == other)
