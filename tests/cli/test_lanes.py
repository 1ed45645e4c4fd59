"""`lanes` and `token resume`: over the socket of a gateway in a process of its own, or over its address with a key."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.cli.lanes import COLUMNS
from app.dispatch import LaneReport
from tests import loopback

from .processes import PATIENCE_SECONDS, REPOSITORY, environment, free_port, started, unmeasured, until
from .shell import Ran, Shell
from .test_serve import Served

VALUE = "a-simulated-token-value-0001"
SOCKET = "control.sock"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway that serves before a simulator, for the whole file."""
    folder = tmp_path_factory.mktemp("lanes")
    port = free_port()
    with ExitStack() as stack:
        simulating = started("simulate", "--port", str(port), "--token", f"shop={VALUE}:account", variables=unmeasured(), folder=folder)
        simulator = stack.enter_context(simulating)
        served = Served(folder, f"http://127.0.0.1:{port}", stack)
        served.start()
        simulator.wait_for(f"{served.upstream}/_simulator/statistics")
        yield served


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    """The callers' keys, once there are any."""
    return {}


@pytest.fixture
def shell(served: Served, keys: dict[str, str], shell_of: Callable[[Path], Shell]) -> Shell:
    """A shell on the state of the gateway that serves, which knows a token and a caller of each role."""
    shell = shell_of(served.state_dir)
    if not keys:
        shell("token", "add", "shop", "--kind", "account", given=VALUE)
        for name, options in {"service": ("--grant", "shop"), "admin": ("--role", "admin"), "auditor": ("--role", "auditor")}.items():
            keys[name] = shell("caller", "add", name, *options, "--json").document["key"]
        # The one that was added last: when the gateway knows it, it knows them all.
        until(lambda: not served.refused_as(keys["auditor"], "credentials-invalid"))
    return shell


def suspend(served: Served, key: str) -> None:
    """Have Flxpoint refuse the token until calls aren't sent any more."""
    deny = [{"kind": "status", "status": 401, "count": 3}]
    loopback.post(f"{served.upstream}/_simulator/faults", json=deny).raise_for_status()
    until(lambda: served.refused_as(key, "token-suspended"))


def over_url(shell: Shell, served: Served, key: str) -> Shell:
    """The shell, told to go over the gateway's address."""
    shell.set(URL=served.url, KEY=key)
    return shell


def cells(ran: Ran) -> dict[str, str]:
    """The one lane of a table, by its columns, which begin where their names do."""
    head, line = ran.out.splitlines()
    columns = list(re.finditer(r"\S+(?: \S+)*", head))
    names, starts = [column[0] for column in columns], [column.start() for column in columns]
    ends = [*starts[1:], None]
    return {name: line[start:end].strip() for name, start, end in zip(names, starts, ends, strict=True)}


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The address of somebody who gives this answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_the_socket_is_its_owners_alone(served: Served) -> None:
    """While the gateway serves, nobody else may open the socket in its state folder."""
    mode = (served.state_dir / SOCKET).stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_lanes_are_shown_over_the_socket(shell: Shell) -> None:
    """Without any key, a command on the same machine shows the running gateway's lanes, for programs and for people."""
    [lane] = shell("lanes", "--json").document
    table = cells(shell("lanes"))

    assert (lane["token"], lane["waiting"], lane["guard"], lane["breakers"]) == ("shop", {}, 0.25, [])
    assert list(table) == [
        *("token", "waiting", "wait", "last second here", "last minute here", "used here"),
        *("guard", "pause", "breaker", "in flight here", "round trip", "alerts"),
    ]
    assert (table["token"], table["waiting"], table["in flight here"], table["breaker"]) == ("shop", "0", "0", "")
    assert table["guard"].startswith("G 250 ms, φ 0.")


def test_lanes_are_shown_over_the_address(shell: Shell, served: Served, keys: dict[str, str]) -> None:
    """With an address and a key the lanes come from there, whatever the state folder: the same members, for admin and auditor."""
    members = set(shell("lanes", "--json").document[0])
    shell.set(STATE_DIR=str(served.folder / "elsewhere"))

    for name in ("admin", "auditor"):
        [lane] = over_url(shell, served, keys[name])("lanes", "--json").document

        assert lane["token"] == "shop"
        assert set(lane) == members
    assert not (served.folder / "elsewhere").exists()


def test_a_token_is_resumed_over_the_socket(shell: Shell, served: Served, keys: dict[str, str]) -> None:
    """What Flxpoint's refusals suspended is told by `lanes`, goes on after `token resume`, and stands on record with the user's ID."""
    suspend(served, keys["service"])
    held = cells(shell("lanes"))["breaker"]

    ran = shell("token", "resume", "shop")
    answer = served.link(keys["service"], "1001")

    assert held.startswith("link-orders: probe in ")
    assert ran == Ran(0, "resumed shop: link-orders\n", "")
    assert (answer.status_code, answer.json()) == (200, [1001])
    [record] = [one for one in shell("audit", "list", "--json").document if one["name"] == "token:resumed"]
    assert (record["by"], record["subject"], record["operations"]) == (f"control:{os.getuid()}", "shop", ["link-orders"])


def test_a_token_is_resumed_over_the_address(shell: Shell, served: Served, keys: dict[str, str]) -> None:
    """An admin's key does the same from elsewhere; an auditor's is refused, and so is a caller's without a role."""
    suspend(served, keys["service"])
    refused = [over_url(shell, served, keys[name])("token", "resume", "shop") for name in ("auditor", "service")]

    first = over_url(shell, served, keys["admin"])("token", "resume", "shop")
    again = over_url(shell, served, keys["admin"])("token", "resume", "shop")

    assert refused == [Ran(1, "", "role-required: this needs a caller with the role admin\n")] * 2
    assert first == Ran(0, "resumed shop: link-orders\n", "")
    assert again == Ran(0, "resumed shop: nothing was held back\n", "")


@pytest.mark.parametrize("name", ["none", "no name", "a/b", "../x", ""])
def test_a_token_that_isnt_there_isnt_resumed_or_tested(shell: Shell, served: Served, keys: dict[str, str], name: str) -> None:
    """A name that no token has ends with status 1 and one line, over the socket and over the address."""
    expected = Ran(1, "", "not-found: there is no token of that name\n")

    for command in ("resume", "test"):
        assert shell("token", command, name) == expected
    for command in ("resume", "test"):
        assert over_url(shell, served, keys["admin"])("token", command, name) == expected


def test_a_token_is_tested_over_the_socket_and_the_address(shell: Shell, served: Served, keys: dict[str, str]) -> None:
    """`token test` says what was asked and answered, which kind the token seems to be, and whether that is what's on file."""
    ran, document = shell("token", "test", "shop"), shell("token", "test", "shop", "--json").document
    elsewhere = over_url(shell, served, keys["admin"])("token", "test", "shop", "--json").document
    refused = over_url(shell, served, keys["auditor"])("token", "test", "shop")

    head, probe, kinds, verdict = ran.out.splitlines()
    assert (ran.status, ran.err, head.split()) == (0, "", ["probe", "answer", "round", "trip"])
    assert re.fullmatch(r"get-account +200 +\d+ ms *", probe)
    assert kinds == "on file: account; seems to be: account; agrees: yes"
    assert verdict == document["verdict"] == "Flxpoint takes it for what its kind on file allows, and for nothing else that was tried"
    assert {name: elsewhere[name] for name in ("token", "kind", "seems", "agrees", "accepted")} == {
        "token": "shop",
        "kind": "account",
        "seems": "account",
        "agrees": True,
        "accepted": True,
    }
    assert [(one["operation"], one["result"], one["status"]) for one in elsewhere["probes"]] == [("get-account", "accepted", 200)]
    assert refused == Ran(1, "", "role-required: this needs a caller with the role admin\n")
    shell.set(URL="")
    by = [one["by"] for one in shell("audit", "list", "--json").document if one["name"] == "token:tested"]
    assert by == ["caller:admin", f"control:{os.getuid()}", f"control:{os.getuid()}"]
    assert "token:tested" in shell("audit", "list").out


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seems": "source", "agrees": False}, "on file: account; seems to be: source; agrees: no"),
        ({"seems": None, "agrees": None}, "on file: account; seems to be: unknown; agrees: can't be told"),
    ],
)
def test_what_a_test_found_is_told_in_words(shell: Shell, changed: dict[str, Any], told: str) -> None:
    """A probe that had no answer is shown by what came of it."""
    probes = [{"operation": "get-account", "result": "unreachable", "status": None, "round_trip": None}]
    answer = {"token": "shop", "kind": "account", "accepted": False, "verdict": "nothing can be said", "probes": probes} | changed
    with answering(200, json.dumps(answer).encode()) as url:
        shell.set(URL=url, KEY="fgk_key")
        lines = shell("token", "test", "shop").out.splitlines()

    assert lines[1].split() == ["get-account", "unreachable", "-"]
    assert lines[2:] == [told, "nothing can be said"]


def test_a_wrong_key_is_refused_and_not_shown(shell: Shell, served: Served) -> None:
    """A key that the gateway doesn't know ends with status 1 and the gateway's own words."""
    key = f"fgk_{'0' * 12}_{'x' * 43}"

    assert over_url(shell, served, key)("lanes") == Ran(1, "", "credentials-invalid: the credential is not valid\n")


@pytest.mark.parametrize(
    "url", ["gateway.example", "ftp://gateway.example", "http://", "http://gateway.example:port", "https://ada:sesame-0001@gateway.example"]
)
def test_an_address_that_is_none_is_status_2(shell: Shell, url: str) -> None:
    """What is no address, or holds a secret, is refused in one line that names the variable and not what it holds."""
    shell.set(URL=url, KEY="fgk_key")

    ran = shell("lanes")

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("GATEWAY_URL: should be the gateway's address")
    assert "sesame" not in ran.err


@pytest.mark.parametrize("key", ["", "two words", "line\nline", "schlüssel"])
def test_an_address_needs_a_key(shell: Shell, served: Served, key: str) -> None:
    """Without a key, or with one that no header could hold, nothing is asked; the line names the variable only."""
    ran = over_url(shell, served, key)("lanes")

    assert ran == Ran(2, "", "GATEWAY_KEY: should be the key of a caller with the role admin or auditor, where GATEWAY_URL is set\n")


def test_nobody_at_the_address_is_status_2(shell: Shell) -> None:
    """An address where nobody listens is told in one line."""
    url = f"http://127.0.0.1:{free_port()}"
    shell.set(URL=url, KEY="fgk_key")

    ran = shell("lanes")

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"no gateway can be asked at {url}: ")


@pytest.mark.parametrize(
    ("status", "body", "lanes", "resume"),
    [
        (200, b"<html>", "it answered 200 without JSON", "it answered 200 without JSON"),
        (200, b"{}", "it answered with no list of lanes", "it answered with no list of operations"),
        (502, b"bad gateway", "it answered 502 without JSON", "it answered 502 without JSON"),
        (404, b'{"type": "about:blank"}', "it answered 404", "it answered 404"),
        (404, b"[]", "it answered 404", "it answered 404"),
        (302, b"[]", "it answered 302", "it answered 302"),
    ],
)
def test_somebody_else_at_the_address_is_status_2(shell: Shell, status: int, body: bytes, lanes: str, resume: str) -> None:
    """Whoever answers and is no gateway is told as such, in one line."""
    with answering(status, body) as url:
        shell.set(URL=url, KEY="fgk_key")
        ran = shell("lanes"), shell("token", "resume", "shop")

        tested = shell("token", "test", "shop")

    assert ran == tuple(Ran(2, "", f"no gateway can be asked at {url}: {reason}\n") for reason in (lanes, resume))
    assert tested == Ran(2, "", f"no gateway can be asked at {url}: {resume.replace('list of operations', 'test')}\n")


def test_every_column_is_explained() -> None:
    """README says of each column, and of each member that `--json` gives in its place, what it means."""
    section = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("| column of `lanes` |")[2].partition("\n\n")[0]
    told = {cell.strip() for row in section.splitlines() for cell in row.split("|")[1:2]}
    columns = {column for cell in told for column in cell.split(", ")}
    unlisted = {"token", "rate", "burst", "merging"}  # what was asked for, not what happens

    assert columns >= set(COLUMNS) - {"token"}
    assert [field.name for field in fields(LaneReport) if f"`{field.name}`" not in section and field.name not in unlisted] == []


LANE: dict[str, Any] = {
    "token": "shop",
    "rate": 2,
    "burst": "window",
    "pacing": "learned",
    "waiting": {"a": 3, "c": 12, "b": 3},
    "waiting_elsewhere": 0,
    "predicted_wait": 9.26,
    "sent_last_second": 2,
    "sent_last_minute": 118,
    "utilisation": 0.9833,
    "guard": 0.5,
    "learned": 0.6154,
    "pause": 1.25,
    "breakers": [{"operation": "link-orders", "probes_in": 59.7}, {"operation": "list-orders", "probes_in": None}],
    "in_flight": 1,
    "smallest_round_trip": 0.0384,
    "median_round_trip": 1.5,
    "merging": True,
    "alerts": ["merging-ended", "token-used-elsewhere"],
}


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        (
            {},
            {
                "token": "shop",
                "waiting": "18: c 12, a 3, b 3",
                "wait": "9.3 s",
                "last second here": "2",
                "last minute here": "118",
                "used here": "98.3%",
                "guard": "G 500 ms, φ 0.62",
                "pause": "1.2 s",
                "breaker": "link-orders: probe in 60 s, list-orders: probing",
                "in flight here": "1",
                "round trip": "38.4 ms / 1500 ms",
                "alerts": "merging-ended, token-used-elsewhere",
            },
        ),
        ({"pacing": "proven", "learned": 0.0, "pause": 0.0}, {"guard": "G 500 ms, proven", "pause": ""}),
        ({"smallest_round_trip": None, "median_round_trip": None}, {"round trip": "- / -"}),
        ({"median_round_trip": None}, {"round trip": "38.4 ms / -"}),
        ({"waiting_elsewhere": 7}, {"waiting": "18: c 12, a 3, b 3; elsewhere 7"}),
        ({"waiting": {}, "waiting_elsewhere": 7}, {"waiting": "0; elsewhere 7"}),
    ],
)
def test_a_lane_is_a_line(shell: Shell, changed: dict[str, Any], shown: dict[str, str]) -> None:
    """Each column says one thing of the lane, with its unit."""
    with answering(200, json.dumps([LANE | changed]).encode()) as url:
        shell.set(URL=url, KEY="fgk_key")
        table = cells(shell("lanes"))

    assert {name: table[name] for name in shown} == shown


def test_no_tokens_are_told_in_words(shell: Shell) -> None:
    """A gateway without tokens has no lanes: one line for people and an empty list for programs."""
    with answering(200, b"[]") as url:
        shell.set(URL=url, KEY="fgk_key")

        assert shell("lanes").out == "no tokens yet\n"
        assert shell("lanes", "--json").document == []


def test_without_a_server_there_are_no_lanes(shell_of: Callable[[Path], Shell], tmp_path: Path) -> None:
    """Where no gateway runs, that's one line with the way out and status 2; nothing is made."""
    shell = shell_of(tmp_path / "none")
    hint = "is `serve` running? GATEWAY_URL and GATEWAY_KEY reach one elsewhere\n"

    for ran in (shell("lanes"), shell("lanes", "--json"), shell("token", "resume", "shop"), shell("token", "test", "shop")):
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert ran.err == f"no gateway can be asked at {tmp_path / 'none' / SOCKET}: No such file or directory; {hint}"
    assert not (tmp_path / "none").exists()


def test_a_state_folder_too_deep_for_a_socket(shell_of: Callable[[Path], Shell], tmp_path: Path) -> None:
    """A path that no socket can have doesn't keep the gateway from serving; it says why, and so do the commands that need the socket."""
    state_dir = tmp_path / ("deep" * 25)
    port = free_port()
    reason = f"its path has {len(os.fsencode(state_dir / SOCKET))} bytes, and a Unix socket's may have 107"
    with started("serve", "--port", str(port), variables=environment(STATE_DIR=state_dir), folder=tmp_path / "out") as gateway:
        gateway.wait_for(f"http://127.0.0.1:{port}/gateway/health/ready")
        ran = shell_of(state_dir)("lanes")
        status = gateway.stop()

    warnings = [line for line in map(json.loads, gateway.err.splitlines()) if "socket" in line]
    assert [(line["level"], line["reason"]) for line in warnings] == [("warning", reason)]
    hint = "set GATEWAY_URL and GATEWAY_KEY to reach the gateway otherwise"
    assert ran == Ran(2, "", f"{state_dir / SOCKET} can't be a socket, since {reason}: {hint}\n")
    assert status == 0


def test_a_crash_leaves_a_socket_that_the_next_start_replaces(shell: Shell, served: Served) -> None:
    """A killed gateway leaves its socket, which reaches nobody; the next one takes its place, and removes it when it ends in order."""
    path = served.state_dir / SOCKET
    served.gateway.process.send_signal(signal.SIGKILL)
    served.gateway.process.wait(PATIENCE_SECONDS)
    left, crashed = path.is_socket(), shell("lanes")

    served.start()
    mode, [lane] = stat.S_IMODE(path.stat().st_mode), shell("lanes", "--json").document
    status = served.gateway.stop()

    assert (left, crashed.status, crashed.err.count("\n")) == (True, 2, 1)
    assert crashed.err.startswith(f"no gateway can be asked at {path}: Connection refused; ")
    assert (mode, lane["token"], status) == (0o600, "shop", 0)
    assert not path.exists()
