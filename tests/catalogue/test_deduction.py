"""What the answers to probes say of a token's kind."""

from __future__ import annotations

from itertools import product

import pytest

from app.catalogue import Deduction, load_catalogue
from app.domain import Operation, TokenKind
from app.settings import SHIPPED_CATALOGUE

PROBES = load_catalogue(SHIPPED_CATALOGUE).probes
ACCOUNT, SOURCE, CHANNEL = TokenKind.ACCOUNT, TokenKind.SOURCE, TokenKind.CHANNEL


def asked(on_file: TokenKind, true: TokenKind | None, probes: tuple[Operation, ...] = PROBES) -> tuple[Deduction, list[str]]:
    """A whole deduction for a token that is in truth of this kind, or no good at all; and what was asked."""
    deduction, names = Deduction(on_file, probes), list[str]()
    while probe := deduction.next():
        names.append(probe.id)
        deduction.learn(probe, accepted=true in probe.token_kinds)
    return deduction, names


@pytest.mark.parametrize(("on_file", "true"), list(product(TokenKind, TokenKind)))
def test_the_kind_is_found_whatever_is_on_file(on_file: TokenKind, true: TokenKind) -> None:
    """By the published kinds each token's own is told, and whether it is the one on file."""
    deduction, names = asked(on_file, true)

    assert (deduction.seems, deduction.agrees, deduction.accepted) == (true, on_file is true, True)
    assert len(names) == len(set(names)) <= 3


@pytest.mark.parametrize(
    ("on_file", "first", "all_in_all"),
    [
        (ACCOUNT, "get-account", ["get-account"]),
        (SOURCE, "list-fulfillment-requests", ["list-fulfillment-requests", "get-account"]),
        (CHANNEL, "list-orders", ["list-orders", "get-account", "list-fulfillment-requests"]),
    ],
)
def test_a_good_token_is_asked_no_more_than_it_takes(on_file: TokenKind, first: str, all_in_all: list[str]) -> None:
    """The probe of the kind on file comes first: of an account token it is the only one."""
    _, names = asked(on_file, on_file)

    assert names[0] == first
    assert names == all_in_all


@pytest.mark.parametrize("on_file", list(TokenKind))
def test_a_token_that_is_refused_everywhere_seems_nothing(on_file: TokenKind) -> None:
    """No kind is told by refusals alone: a token that was withdrawn is refused as one of another kind is."""
    deduction, _ = asked(on_file, None)

    assert (deduction.seems, deduction.agrees, deduction.accepted, deduction.kinds) == (None, None, False, frozenset())


def test_what_cant_be_told_is_left_open() -> None:
    """With one probe that takes all kinds, a good token is known to be good and no more."""
    everyone = tuple(probe for probe in PROBES if probe.id == "list-orders")

    deduction, names = asked(SOURCE, CHANNEL, everyone)

    assert names == ["list-orders"]
    assert (deduction.seems, deduction.agrees, deduction.accepted) == (None, None, True)


def test_a_kind_that_is_ruled_out_doesnt_agree() -> None:
    """Where several other kinds are left, it's still known that the one on file is wrong."""
    some = tuple(probe for probe in PROBES if probe.id == "list-fulfillment-requests")

    deduction, _ = asked(CHANNEL, SOURCE, some)

    assert (deduction.seems, deduction.agrees) == (None, False)
    assert deduction.kinds == {ACCOUNT, SOURCE}
