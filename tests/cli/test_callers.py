"""The commands of callers: a key is shown once, when it is made."""

from __future__ import annotations

import re

import pytest

from app.callers.keys import parse_key

from .shell import Ran, Shell

KEY = re.compile(r"fgk_[0-9a-f]{12}_[0-9A-Za-z_-]{43}")


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose state holds two tokens."""
    shell.set(MASTER_KEYS="k1:" + "A" * 43 + "=")
    for number, name in enumerate(["shop", "store"]):
        shell("token", "add", name, "--kind", "account", given=f"a-token-value-000{number}")
    return shell


def test_a_caller_is_added_for_people(shell: Shell) -> None:
    """The new caller's key is shown, with a word that it is only now."""
    ran = shell("caller", "add", "order-service", "--grant", "shop")

    first, key = ran.out.splitlines()
    assert (ran.status, ran.err) == (0, "")
    assert first == "order-service's key, shown only now:"
    assert parse_key(key)


def test_a_caller_is_added_for_programs(shell: Shell) -> None:
    """With `--json` the answer is the caller's name, ID and key."""
    made = shell("caller", "add", "order-service", "--grant", "shop", "--json").document

    assert set(made) == {"name", "id", "key"}
    assert made["name"] == "order-service"
    assert parse_key(made["key"])
    assert shell("caller", "show", "order-service", "--json").document["id"] == made["id"]


def test_the_options_are_kept(shell: Shell) -> None:
    """Grants, default, role, weight and rate are what they were given as."""
    options = ("--grant", "store", "--grant", "shop:link-orders", "--default-token", "shop")
    more = ("--role", "auditor", "--weight", "3", "--rate", "5/minute")
    made = shell("caller", "add", "order-service", *options, *more, "--json").document

    shown = shell("caller", "show", "order-service", "--json").document

    key = parse_key(made["key"])
    assert key is not None
    assert shown.pop("created")
    assert shown == {
        "name": "order-service",
        "id": made["id"],
        "role": "auditor",
        "weight": 3,
        "rate": "5/minute",
        "default_token": "shop",
        "grants": [{"token": "shop", "operations": ["link-orders"]}, {"token": "store", "operations": None}],
        "keys": [key.id],
    }


def test_a_key_is_never_shown_again(shell: Shell) -> None:
    """No other command, nor the record, nor the database shows a key that was made."""
    made = shell("caller", "add", "order-service", "--grant", "shop", "--json").document["key"]
    rotated = shell("caller", "rotate-key", "order-service", "--json").document["key"]

    later = [
        shell(*command.split())
        for command in (
            "caller list",
            "caller list --json",
            "caller show order-service",
            "caller show order-service --json",
            "caller grant order-service store",
            "audit list",
            "audit list --json",
            "caller remove order-service",
        )
    ]

    assert [ran.status for ran in later] == [0] * len(later)
    assert not any(KEY.search(ran.out + ran.err) for ran in later)
    for key in (made, rotated):
        secret = key.rpartition("_")[2] if "_" not in key[17:] else key[17:]
        assert not any(secret in ran.out for ran in later)
        assert not any(secret.encode() in path.read_bytes() for path in shell.state_dir.iterdir())


def test_a_key_is_rotated(shell: Shell) -> None:
    """A rotation shows the new key once, and the caller then has that key alone."""
    before = shell("caller", "add", "order-service", "--json").document

    people, programs = shell("caller", "rotate-key", "order-service"), shell("caller", "rotate-key", "order-service", "--json").document

    key = parse_key(programs["key"])
    assert key is not None
    assert people.out.startswith("order-service's key, shown only now:\nfgk_")
    assert programs["id"] == before["id"]
    assert len({before["key"], people.out.splitlines()[1], programs["key"]}) == 3
    assert shell("caller", "show", "order-service", "--json").document["keys"] == [key.id]


def test_the_callers_are_listed(shell: Shell) -> None:
    """The list has a line for each caller, and the same as JSON."""
    shell("caller", "add", "b", "--grant", "shop:link-orders", "--grant", "store", "--default-token", "store", "--role", "admin")
    shell("caller", "add", "a")

    table, document = shell("caller", "list"), shell("caller", "list", "--json").document

    assert [one["name"] for one in document] == ["a", "b"]
    assert [line.split() for line in table.out.splitlines()] == [
        ["name", "role", "weight", "rate", "grants", "default", "token"],
        ["a", "1"],
        ["b", "admin", "1", "shop:link-orders,", "store", "store"],
    ]


def test_no_callers_are_told_in_words(shell: Shell) -> None:
    """An empty list is one line for people and an empty list for programs."""
    assert shell("caller", "list").out == "no callers yet\n"
    assert shell("caller", "list", "--json").document == []


def test_a_caller_is_shown(shell: Shell) -> None:
    """A caller is shown member by member, its grants as they are written."""
    shell("caller", "add", "order-service", "--grant", "shop:link-orders", "--grant", "store")
    document = shell("caller", "show", "order-service", "--json").document

    lines = dict((line.rstrip() + " ").split(" ", 1) for line in shell("caller", "show", "order-service").out.splitlines())

    assert lines["name"].strip() == "order-service"
    assert lines["grants"].strip() == "shop:link-orders, store"
    assert lines["keys"].strip() == document["keys"][0]
    assert lines["role"].strip() == ""


def test_grants_are_given_and_taken_back(shell: Shell) -> None:
    """Each change of a caller's grants tells what it may use now."""
    shell("caller", "add", "order-service", "--grant", "shop")

    said = [
        shell("caller", "grant", "order-service", "store:link-orders").out,
        shell("caller", "grant", "order-service", "store").out,
        shell("caller", "revoke", "order-service", "shop").out,
        shell("caller", "revoke", "order-service", "store").out,
    ]

    assert said == [
        "order-service may use: shop, store:link-orders\n",
        "order-service may use: shop, store\n",
        "order-service may use: store\n",
        "order-service may use: nothing\n",
    ]


def test_a_caller_is_removed(shell: Shell) -> None:
    """A removed caller is there no more."""
    shell("caller", "add", "order-service")

    assert shell("caller", "remove", "order-service").out == "removed order-service\n"
    assert shell("caller", "show", "order-service") == Ran(1, "", "not-found: there is no caller named order-service\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("add", "order-service"), "conflict: there is a caller named order-service already"),
        (("add", "a b"), "parameter-invalid: a caller's name has 1 to 64 letters, digits, dots, dashes and underscores"),
        (("add", "a", "--weight", "0"), "parameter-invalid: a caller's weight is 1 to 1000"),
        (("add", "a", "--rate", "often"), "parameter-invalid: a caller's rate is one limit of at least one, such as 100/second"),
        (("add", "a", "--default-token", "shop"), "parameter-invalid: the default token shop must be among the grants"),
        (("add", "a", "--grant", "none"), "not-found: there is no token named none"),
        (("add", "a", "--grant", "shop:none"), "not-found: there is no operation none; the catalogue has link-orders"),
        (("add", "a", "--grant", "shop:"), "not-found: there is no operation of an empty name; the catalogue has link-orders"),
        (("grant", "none", "shop"), "not-found: there is no caller named none"),
        (("grant", "order-service", "shop:link-orders,none"), "not-found: there is no operation none; the catalogue has link-orders"),
        (("revoke", "order-service", "shop"), "not-found: order-service has no grant for shop"),
        (("rotate-key", "none"), "not-found: there is no caller named none"),
        (("remove", "none"), "not-found: there is no caller named none"),
    ],
)
def test_a_refused_command_says_why(shell: Shell, arguments: tuple[str, ...], line: str) -> None:
    """What is refused ends with status 1 and one line, `code: detail`, on standard error."""
    shell("caller", "add", "order-service")

    assert shell("caller", *arguments) == Ran(1, "", line + "\n")
