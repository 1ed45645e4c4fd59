"""The one-parameter rule, by example and against a model of its own."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalogue import check_request, load_catalogue, read_request
from app.domain import Operation
from app.errors import (
    BadRequest,
    BodyNotAllowed,
    GatewayError,
    ParameterConflict,
    ParameterInvalid,
    ParameterMissing,
    ParameterUnknown,
)
from app.settings import SHIPPED_CATALOGUE

LINK: Operation = load_catalogue(SHIPPED_CATALOGUE)["link-orders"]
DECLARED = ["orderIds", "orderItemIds", "channelIds"]
LARGEST = 2**63 - 1
FIFTY = ",".join(str(number) for number in range(1, 51))


def checked(query: str) -> tuple[str, tuple[int, ...]]:
    """The parameter's name and the IDs of a query that keeps the rule."""
    parameter, ids = check_request(LINK, query.encode("ascii"), has_body=False)
    return parameter.name, ids


def problem(query: str | bytes, *, has_body: bool = False) -> BadRequest:
    """The problem of a request that breaks the rule."""
    with pytest.raises(BadRequest) as refused:
        check_request(LINK, query.encode("ascii") if isinstance(query, str) else query, has_body=has_body)
    return refused.value


@pytest.mark.parametrize(
    ("query", "name", "ids"),
    [
        ("orderIds=1", "orderIds", (1,)),
        ("orderItemIds=7,8", "orderItemIds", (7, 8)),
        ("channelIds=3", "channelIds", (3,)),
        ("orderIds=3,1,2", "orderIds", (3, 1, 2)),
        ("orderIds=1&orderIds=2", "orderIds", (1, 2)),
        ("orderIds=1,2&orderIds=3", "orderIds", (1, 2, 3)),
        ("orderIds=5,5", "orderIds", (5,)),
        ("orderIds=5&orderIds=6,5", "orderIds", (5, 6)),
        ("orderIds=1%2C2", "orderIds", (1, 2)),
        ("orderIds=1%2c2", "orderIds", (1, 2)),
        ("orderIds=%31%30", "orderIds", (10,)),
        ("order%49ds=1", "orderIds", (1,)),
        ("&orderIds=1&&", "orderIds", (1,)),
        (f"orderIds={LARGEST}", "orderIds", (LARGEST,)),
        (f"orderIds={FIFTY}", "orderIds", tuple(range(1, 51))),
        (f"orderIds={FIFTY},50", "orderIds", tuple(range(1, 51))),
    ],
)
def test_one_parameter_with_ids_keeps_the_rule(query: str, name: str, ids: tuple[int, ...]) -> None:
    """Exactly one declared parameter with positive 64-bit integers is accepted in every style of writing, each ID once, in order."""
    assert checked(query) == (name, ids)


@pytest.mark.parametrize("query", ["", "&", "&&"])
def test_no_parameter_is_refused(query: str) -> None:
    """A call without a parameter is told which there are."""
    refused = problem(query)

    assert type(refused) is ParameterMissing
    assert refused.members == {"declared": DECLARED}
    assert all(name in refused.detail for name in DECLARED)


@pytest.mark.parametrize(
    ("query", "given_names"),
    [
        ("orderIds=1&channelIds=2", ["orderIds", "channelIds"]),
        ("channelIds=2&orderIds=1&channelIds=3", ["channelIds", "orderIds"]),
        ("orderIds=1&orderItemIds=&channelIds", DECLARED),
    ],
)
def test_two_parameters_are_refused(query: str, given_names: list[str]) -> None:
    """A call with several of the declared parameters is told which it had and which there are, empty ones counted too."""
    refused = problem(query)

    assert type(refused) is ParameterConflict
    assert refused.members == {"given": given_names, "declared": DECLARED}


@pytest.mark.parametrize(
    ("query", "unknown"),
    [
        ("orderids=1", "orderids"),
        ("ORDERIDS=1", "ORDERIDS"),
        ("orderIds%20=1", "orderIds "),
        ("orderIds%00=1", "orderIds\0"),
        ("orderIds[]=1", "orderIds[]"),
        ("ids=1", "ids"),
        ("=1", ""),
        ("orderIds=1&page=2", "page"),
        ("page=2&orderIds=1&channelIds=2", "page"),
        ("x" * 15 + "=1", "x" * 15),
        ("x" * 16 + "=1", "(a name of 16 characters)"),
        ("%78" * 100 + "=1", "(a name of 100 characters)"),
    ],
)
def test_an_undeclared_parameter_is_refused(query: str, unknown: str) -> None:
    """A name that isn't declared, in its very case, is refused before anything else; one as long as a token isn't shown."""
    refused = problem(query)

    assert type(refused) is ParameterUnknown
    assert refused.members == {"unknown": [unknown], "declared": DECLARED}


def test_undeclared_names_are_listed_in_bounds() -> None:
    """However many undeclared names a call has, the problem lists ten."""
    refused = problem("&".join(f"p{number}=1" for number in range(100)))

    assert refused.members["unknown"] == [f"p{number}" for number in range(10)]


def test_an_undeclared_name_is_shown_harmlessly() -> None:
    """What a terminal or a log would act on stands escaped in the detail."""
    refused = problem("%1B%5B2J%0A=1")

    assert refused.detail.isprintable()
    assert refused.detail.isascii()


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("orderIds=", 1),
        ("orderIds", 1),
        ("orderIds=0", 1),
        ("orderIds=-1", 1),
        ("orderIds=%2B1", 1),
        ("orderIds=+1", 1),
        ("orderIds=1.5", 1),
        ("orderIds=1e3", 1),
        ("orderIds=0x10", 1),
        ("orderIds=1_000", 1),
        ("orderIds=007", 1),
        ("orderIds=abc", 1),
        ("orderIds=null", 1),
        ("orderIds=[1]", 1),
        ("orderIds=1,,2", 2),
        ("orderIds=1,", 2),
        ("orderIds=,1", 1),
        ("orderIds=1&orderIds=", 2),
        ("orderIds=1,%202", 2),
        ("orderIds=1;2", 1),
        (f"orderIds={LARGEST + 1}", 1),
        ("orderIds=" + "9" * 5000, 1),
        ("orderIds=1%00", 1),
        ("orderIds=1%0A", 1),
        ("orderIds=1%0D%0A", 1),
        ("orderIds=%D9%A1", 1),
        ("orderIds=%EF%BC%91", 1),
        ("orderIds=%C2%B2", 1),
        ("orderIds=%FF", 1),
        ("orderIds=1=1", 1),
        ("orderIds=1%252C2", 1),
    ],
)
def test_what_is_no_list_of_ids_is_refused(query: str, place: int) -> None:
    """A value that isn't a list of positive 64-bit integers in plain digits is refused, naming the first wrong place."""
    refused = problem(query)

    assert type(refused) is ParameterInvalid
    assert refused.members == {"parameter": "orderIds", "place": place}


def test_bytes_beyond_ascii_are_no_id() -> None:
    """Raw bytes beyond ASCII, which HTTP doesn't allow in a query, are refused like any other value."""
    assert type(problem(b"orderIds=\xd9\xa1")) is ParameterInvalid
    assert type(problem(b"\xff=1")) is ParameterUnknown


@pytest.mark.parametrize("query", [f"orderIds={FIFTY},51", f"orderIds={FIFTY}&orderIds=51"])
def test_more_ids_than_the_cap_are_refused(query: str) -> None:
    """The 51st different ID is one too many, in either style."""
    refused = problem(query)

    assert type(refused) is ParameterInvalid
    assert refused.members == {"parameter": "orderIds", "max_items": 50}
    assert "at most 50 IDs; the call had 51" in refused.detail


@pytest.mark.parametrize("query", ["orderIds=1", "", "orderIds=1&channelIds=2", "x=1"])
def test_a_body_is_refused(query: str) -> None:
    """A call with a body is refused, whatever its query."""
    assert type(problem(query, has_body=True)) is BodyNotAllowed


# --- the model


def expected(pairs: Sequence[tuple[str, str]]) -> str | tuple[str, list[int]]:
    """What the issue's words ask for: a problem's code, or the parameter and its IDs."""
    names = {name for name, _ in pairs}
    if names - set(DECLARED):
        return "parameter-unknown"
    if len(names) != 1:
        return "parameter-conflict" if names else "parameter-missing"
    ids: list[int] = []
    for text in ",".join(value for _, value in pairs).split(","):
        if not (text.isascii() and text.isdecimal()) or text.startswith("0") or int(text) not in range(1, 2**63):
            return "parameter-invalid"
        if int(text) not in ids:
            ids.append(int(text))
    return (pairs[0][0], ids) if len(ids) <= 50 else "parameter-invalid"


def answered(query: bytes) -> str | tuple[str, list[int]]:
    """What the gateway decides, in the model's terms."""
    try:
        parameter, ids = check_request(LINK, query, has_body=False)
    except GatewayError as error:
        return error.code
    return parameter.name, list(ids)


PLAIN = st.integers(1, LARGEST).map(str)
ODD = st.integers(-2, 2).map(str) | st.integers(LARGEST - 1, 2**65).map(str) | st.text(max_size=3)
RUNS = st.integers(1, 60).map(lambda length: ",".join(map(str, range(1, length + 1))))
VALUES = RUNS | st.lists(PLAIN | ODD, max_size=3).map(",".join)
NAMES = st.sampled_from(DECLARED)
ONE_NAME = NAMES.flatmap(lambda name: st.lists(st.tuples(st.just(name), VALUES), min_size=1, max_size=2))
ANY_NAMES = st.lists(st.tuples(NAMES | st.sampled_from(["orderids", "ids", "orderIds ", "é", ""]), VALUES), max_size=3)


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """A text as a query may spell it: what must be percent-encoded is, and anything else may be."""
    everywhere = "".join(f"%{byte:02X}" for byte in text.encode())
    return draw(st.sampled_from([quote(text, safe=""), quote(text, safe=","), quote(text, safe="").replace("%20", "+"), everywhere]))


@st.composite
def queries(draw: st.DrawFn) -> tuple[list[tuple[str, str]], bytes]:
    """Names with values, and one of the ways to write them."""
    pairs = draw(ONE_NAME | ANY_NAMES)
    written = [draw(spelled(name)) + "=" + draw(spelled(value)) for name, value in pairs]
    return pairs, draw(st.sampled_from(["&", "&&"])).join(written).encode("ascii")


@settings(deadline=None)
@given(queries())
def test_the_rule_decides_as_its_model(written: tuple[list[tuple[str, str]], bytes]) -> None:
    """For any names and values, however spelled, the gateway decides as a second reading of the issue does."""
    pairs, query = written

    assert answered(query) == expected(pairs)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda rest: b"orderIds=" + rest))
def test_any_bytes_are_decided(query: bytes) -> None:
    """No query, however broken, leads to anything but IDs in bounds or one of the rule's problems."""
    decided = answered(query)

    if isinstance(decided, str):
        assert decided in {"parameter-missing", "parameter-conflict", "parameter-unknown", "parameter-invalid"}
    else:
        assert 1 <= len(decided[1]) <= 50
        assert all(1 <= one < 2**63 for one in decided[1])


@settings(deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyzABCDEF-_.~", min_size=8, max_size=80), st.sampled_from(DECLARED))
def test_a_value_is_never_repeated(value: str, name: str) -> None:
    """A value may be a secret that went into the wrong place, so neither the detail nor a member repeats it."""
    refused = problem(f"{name}=1,{value}")

    assert value not in refused.detail
    assert value not in str(refused.members)


@pytest.mark.parametrize(
    ("query", "read"),
    [
        ("orderIds=5,5,6", ("orderIds", (5, 6))),
        ("orderIds=1001&debug=true", ("orderIds", (1001,))),
        ("orderIds=1,not-a-number,,0,-3,007,9223372036854775808,2", ("orderIds", (1, 2))),
        (f"orderIds={FIFTY},51,52", ("orderIds", tuple(range(1, 51)))),
        ("channelIds=", ("channelIds", ())),
        ("orderIds=1&channelIds=2", None),
        ("orderids=1", None),
        ("", None),
    ],
)
def test_what_is_refused_is_read_as_far_as_it_can_be(query: str, read: tuple[str, tuple[int, ...]] | None) -> None:
    """The one declared parameter with its IDs, up to the cap; nothing else that stood there."""
    found = read_request(LINK, query.encode("ascii"))

    assert (found and (found[0].name, found[1])) == read


@settings(deadline=None)
@given(queries())
def test_what_keeps_the_rule_is_read_as_it_is_decided(written: tuple[list[tuple[str, str]], bytes]) -> None:
    """For the record a call asks for the same, whether it was refused later or never."""
    _, query = written
    decided, read = answered(query), read_request(LINK, query)

    assert isinstance(decided, str) or (read and (read[0].name, list(read[1]))) == decided
