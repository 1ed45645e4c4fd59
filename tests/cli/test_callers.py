"""The commands of callers: a key is shown once, when it is made."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

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
    more = ("--role", "auditor", "--weight", "3", "--rate", "5/minute", "--expires", "2100-01-01")
    bounds = (
        "--network",
        "10.0.0.0/8",
        "--network",
        "fd00::/8",
        "--origin",
        "https://shop.example",
        "--claim",
        "sub=a=b",
        "--claim",
        "x=y",
    )
    made = shell("caller", "add", "order-service", *options, *more, *bounds, "--json").document

    shown = shell("caller", "show", "order-service", "--json").document

    key = parse_key(made["key"])
    assert key is not None
    assert shown.pop("created")
    assert shown["keys"][0].pop("created")
    assert shown == {
        "name": "order-service",
        "id": made["id"],
        "enabled": True,
        "declared": False,
        "role": "auditor",
        "weight": 3,
        "rate": "5/minute",
        "default_token": "shop",
        "grants": [{"token": "shop", "operations": ["link-orders"]}, {"token": "store", "operations": None}],
        "networks": ["10.0.0.0/8", "fd00::/8"],
        "origins": ["https://shop.example"],
        "claims": {"sub": "a=b", "x": "y"},
        "keys": [{"id": key.id, "expires": "2100-01-01T00:00:00.000000+00:00", "last_used": None}],
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
    assert [one["id"] for one in shell("caller", "show", "order-service", "--json").document["keys"]] == [key.id]


def test_a_key_is_rotated_with_a_grace(shell: Shell) -> None:
    """With a grace the old key is shown with its end beside the new one, which has the end that it was given."""
    shell("caller", "add", "order-service")
    before = datetime.now(UTC)

    new = shell("caller", "rotate-key", "order-service", "--grace", "24h", "--expires", "90d", "--json").document
    old_key, new_key = shell("caller", "show", "order-service", "--json").document["keys"]

    after = datetime.now(UTC)
    assert new_key["id"] in new["key"]
    for key, days in ((old_key, 1), (new_key, 90)):
        assert before + timedelta(days=days) <= datetime.fromisoformat(key["expires"]) <= after + timedelta(days=days)


def test_a_caller_is_changed(shell: Shell) -> None:
    """What is given changes and nothing else: lists take the place of those before, `none` takes away."""
    shell("caller", "add", "order-service", "--grant", "shop", "--grant", "store", "--network", "10.0.0.0/8", "--origin", "https://a")
    before = shell("caller", "show", "order-service", "--json").document

    given = ("--default-token", "store", "--role", "admin", "--weight", "3", "--rate", "5/second", "--claim", "sub=a")
    shell("caller", "set", "order-service", *given, "--network", "fd00::/8", "--network", "192.0.2.0/24")
    changed = shell("caller", "show", "order-service", "--json").document
    taken = ("--default-token", "none", "--role", "none", "--rate", "none", "--network", "none", "--origin", "none", "--claim", "none")
    shell("caller", "set", "order-service", *taken, "--weight", "1")
    after = shell("caller", "show", "order-service", "--json").document

    new = {"default_token": "store", "role": "admin", "weight": 3, "rate": "5/second", "claims": {"sub": "a"}}
    assert changed == before | new | {"networks": ["fd00::/8", "192.0.2.0/24"]}
    assert after == before | {"networks": [], "origins": []}


def test_a_change_is_shown(shell: Shell) -> None:
    """A change answers with the caller as it is now."""
    shell("caller", "add", "order-service")

    ran = shell("caller", "set", "order-service", "--origin", "https://a", "--origin", "https://b", "--claim", "sub=x")

    lines = dict((line.rstrip() + " ").split(" ", 1) for line in ran.out.splitlines())
    assert (ran.status, lines["origins"].strip(), lines["claims"].strip()) == (0, "https://a, https://b", "sub=x")


def test_a_caller_is_disabled_and_enabled(shell: Shell) -> None:
    """A disabled caller is listed as such, and keeps what it has."""
    shell("caller", "add", "order-service", "--grant", "shop")
    before = shell("caller", "show", "order-service", "--json").document

    said = [shell("caller", what, "order-service").out for what in ("disable", "enable", "disable")]
    after = shell("caller", "show", "order-service", "--json").document

    assert said == ["disabled order-service\n", "enabled order-service\n", "disabled order-service\n"]
    assert after == before | {"enabled": False}
    assert shell("caller", "list").out.splitlines()[1].split()[:2] == ["order-service", "no"]


def test_the_callers_are_listed(shell: Shell) -> None:
    """The list has a line for each caller, and the same as JSON."""
    shell("caller", "add", "b", "--grant", "shop:link-orders", "--grant", "store", "--default-token", "store", "--role", "admin")
    shell("caller", "add", "a")

    table, document = shell("caller", "list"), shell("caller", "list", "--json").document

    assert [one["name"] for one in document] == ["a", "b"]
    assert [line.split() for line in table.out.splitlines()] == [
        ["name", "enabled", "role", "weight", "rate", "grants", "default", "token"],
        ["a", "yes", "1"],
        ["b", "yes", "admin", "1", "shop:link-orders,", "store", "store"],
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
    assert lines["keys"].strip() == f"{document['keys'][0]['id']} (last used never)"
    assert lines["enabled"].strip() == "yes"
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
    assert shell("caller", "show", "order-service") == Ran(1, "", "not-found: there is no caller of that name\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("add", "order-service"), "conflict: there is a caller named order-service already"),
        (("add", "a b"), "parameter-invalid: a caller's name has 1 to 64 letters, digits, dots, dashes and underscores"),
        (("add", "a", "--weight", "0"), "parameter-invalid: a caller's weight is 1 to 1000"),
        (("add", "a", "--rate", "often"), "parameter-invalid: a caller's rate is one limit of at least one, such as 100/second"),
        (("add", "a", "--default-token", "shop"), "parameter-invalid: the default token must be among the grants"),
        (("add", "a", "--grant", "none"), "not-found: there is no token of that name"),
        (("add", "a", "--grant", "shop:none"), "not-found: there is no operation none; the catalogue has link-orders"),
        (("add", "a", "--grant", "shop:"), "not-found: there is no operation of an empty name; the catalogue has link-orders"),
        (("grant", "none", "shop"), "not-found: there is no caller of that name"),
        (("grant", "order-service", "shop:link-orders,none"), "not-found: there is no operation none; the catalogue has link-orders"),
        (("revoke", "order-service", "shop"), "not-found: order-service has no grant for shop"),
        (("rotate-key", "none"), "not-found: there is no caller of that name"),
        (("remove", "none"), "not-found: there is no caller of that name"),
        (("set", "none", "--weight", "2"), "not-found: there is no caller of that name"),
        (("set", "order-service", "--weight", "0"), "parameter-invalid: a caller's weight is 1 to 1000"),
        (("set", "order-service", "--role", "king"), "parameter-invalid: a role is one of admin, auditor, or none"),
        (("set", "order-service", "--claim", "sub"), "parameter-invalid: a claim is written as name=value, not sub"),
        (("set", "order-service", "--default-token", "shop"), "parameter-invalid: the default token must be among the grants"),
        (
            ("set", "order-service", "--network", "10.0.0.1/8"),
            "parameter-invalid: a caller's network is written as 10.0.0.0/8, without bits beyond the mask",
        ),
        (("disable", "none"), "not-found: there is no caller of that name"),
        (("rotate-key", "order-service", "--grace", "1w"), "parameter-invalid: a duration is written as 90d, 24h, 30m or 45s"),
        (("rotate-key", "order-service", "--expires", "2020-01-01"), "parameter-invalid: a key's end must be in the future"),
    ],
)
def test_a_refused_command_says_why(shell: Shell, arguments: tuple[str, ...], line: str) -> None:
    """What is refused ends with status 1 and one line, `code: detail`, on standard error."""
    shell("caller", "add", "order-service")

    assert shell("caller", *arguments) == Ran(1, "", line + "\n")
