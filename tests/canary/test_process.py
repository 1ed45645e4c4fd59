"""The canary, with the program as it is shipped: every command, every route, every way in which Flxpoint can say a token back."""

from __future__ import annotations

import base64
import json
import re
import secrets
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from app.cli.control import control_path
from app.errors import PROBLEMS
from app.main import create_app
from app.simulator.tokens import SimulatedToken
from tests import loopback
from tests.canary import commands
from tests.canary.haul import Haul
from tests.canary.routes import Ask, Drive, routes_of
from tests.canary.searching import Searcher
from tests.canary.upstream import Hosts, hosts
from tests.cli.processes import Process, free_port, started, unmeasured
from tests.cli.shell import Shell
from tests.rig import settings_for

PAGE = "https://page.example"
KEYS_ID = len("fgk_0123456789ab_")
UNDRIVEN_CODES = {
    "token-kind-not-accepted": "the shipped catalogue's operation takes every kind",
    "queue-full": "it takes a thousand waiting calls; its detail holds numbers only",
    "audit-unavailable": "it takes a database that fails; its detail is a constant",
    "shutting-down": "it takes calls that outlive the server; its detail is a constant",
    "upstream-timeout": "it takes 30 s; its detail is a constant",
    "request-timeout": "it takes 10 s; its detail is a constant",
    "pacing-unavailable": "it takes Valkey, and that it fails; its detail is a constant",
    "too-many-followers": "it takes thousands of connections; its detail is a constant",
    "job-quota-exceeded": "it takes a hundred open jobs; its detail holds numbers only",
    "internal-error": "it takes a defect, which the other half of the canary makes",
}


def planted() -> str:
    """A token's value as no other test has it, with every character that an encoding changes."""
    return f'Ka/{secrets.token_hex(8)}+na="{secrets.token_hex(8)}&<r%i\\e'


@dataclass
class Planted:
    """The values: at first, after a rotation, the one that is offered to every route, and the one of the configuration file."""

    first: str = field(default_factory=planted)
    rotated: str = field(default_factory=planted)
    offered: str = field(default_factory=planted)
    declared: str = field(default_factory=planted)

    @property
    def searcher(self) -> Searcher:
        """Looks for all of them."""
        return Searcher(self.first, self.rotated, self.offered, self.declared)


class Commands:
    """Runs commands, and keeps what they print and which were run."""

    def __init__(self, shell: Shell, haul: Haul) -> None:
        self._shell, self._haul = shell, haul
        self.ran: set[str] = set()

    def __call__(self, name: str, *arguments: str, given: str = "") -> str:
        """Run one with `given` on its standard input."""
        self.ran.add(name)
        ended = self._shell(*name.split(), *arguments, given=given)
        self._haul.add(f"command {name}", ended.out)
        self._haul.add(f"error of {name}", ended.err)
        return ended.out


@dataclass
class Canary:
    """The running gateway, and what came out of it so far."""

    haul: Haul
    shell: Shell
    run: Commands
    upstream: Hosts
    planted: Planted
    client: httpx2.Client
    url: str = ""
    keys: dict[str, str] = field(default_factory=dict)

    def ask(self, source: str, one: Ask) -> httpx2.Response:
        """Make a request and keep its answer."""
        self.client.cookies.clear()
        answer = self.client.request(one.method, self.url + one.target, headers=list(one.headers), content=one.body)
        self.haul.add_answer(f"answer to {source}", answer)
        return answer

    def link(self, query: str = "orderIds=1001", caller: str = "service", name: str = "shop", **headers: str) -> httpx2.Response:
        """A call."""
        given = {"Authorization": f"Bearer {self.keys[caller]}", "Gateway-Token": name} | headers
        return self.ask("a call", Ask("PATCH", f"/orders/link?{query}", tuple(given.items())))

    def plan(self, **fault: Any) -> None:
        """Order one fault."""
        self.client.post(f"{self.upstream.url}/_simulator/faults", json=[fault | {"count": 1}]).raise_for_status()

    def forget_faults(self) -> None:
        """Take back what was ordered and hasn't come."""
        self.client.delete(f"{self.upstream.url}/_simulator/faults").raise_for_status()


@contextmanager
def canary(folder: Path, shell: Shell) -> Iterator[tuple[Canary, Path, dict[str, str]]]:
    """A state folder with tokens and callers, made by commands, before a simulated Flxpoint."""
    values, haul = Planted(), Haul()
    simulated = (SimulatedToken("shop", values.first, "account"), SimulatedToken("spare", values.rotated, "account"))
    unkept = httpx2.Limits(max_keepalive_connections=0)
    with hosts(*simulated) as upstream, loopback.client(timeout=60, limits=unkept) as client:
        shell.set(UPSTREAM_URL=upstream.url, CONFIG_FILE=str(declared_in(folder)))
        here = Canary(haul, shell, Commands(shell, haul), upstream, values, client)
        _prepare(here, folder)
        state = shell.state_dir
        variables = unmeasured(
            STATE_DIR=state,
            UPSTREAM_URL=upstream.url,
            LOG_LEVEL="DEBUG",
            ALLOWED_HOSTS="127.0.0.1",
            SHUTDOWN_GRACE=1,
            CONFIG_FILE=declared_in(folder),
        )
        yield here, state, variables


def declared_in(folder: Path) -> Path:
    """Where the configuration file is."""
    return folder / "gateway.yaml"


def _prepare(here: Canary, folder: Path) -> None:
    run, values = here.run, here.planted
    (folder / "value").write_text(values.first, encoding="ascii")
    (folder / "declared").write_text(values.declared, encoding="ascii")
    declared_in(folder).write_text("tokens: [{name: from-git, kind: account, value: {file: declared}}]", encoding="ascii")
    run("db upgrade")
    run("token add", "shop", "--kind", "account", "--rate", "1000", given=values.first)
    run("token add", "spare", "--kind", "account", "--rate", "1000", "--value-file", str(folder / "value"))
    run("token add", "spare", "--kind", "account", "--rate", "1000", given=f"{values.rotated} and more")
    run("token add", "spare", "--kind", "account", "--rate", "1000", given=values.rotated)
    run("token add", "asleep", "--kind", "source", given=values.offered[::-1])
    run("token disable", "asleep")
    grants = ("--grant", "shop", "--grant", "spare", "--grant", "asleep", "--rate", "10000/second", "--json")
    here.keys["service"] = json.loads(run("caller add", "service", *grants))["key"]
    here.keys["outsider"] = json.loads(run("caller add", "outsider", "--json"))["key"]
    here.keys["hasty"] = json.loads(run("caller add", "hasty", "--grant", "shop", "--rate", "1/hour", "--json"))["key"]
    pages = ("--grant", "shop", "--origin", PAGE, "--rate", "10000/second", "--json")
    here.keys["pages"] = json.loads(run("caller add", "pages", *pages))["key"]
    here.keys["admin"] = json.loads(run("caller add", "admin", "--role", "admin", "--rate", "10000/second", "--json"))["key"]


def _said_back(value: str) -> Iterable[str]:
    """What Flxpoint might say of a token, beside what the simulator's own echo does."""
    yield f"no such token {value}, sorry"
    yield json.dumps({"message": f"token {value} is bad"})
    yield json.dumps(json.dumps({"token": value}))
    yield f"?t={quote(value, safe='')}&u={quote(quote(value, safe=''), safe='')}"
    yield "".join(f"%{ord(one):02x}" for one in value)
    yield "".join(f"&#{ord(one)};" for one in value)
    yield "\0".join(value)
    yield "\r\n".join(value[start : start + 9] for start in range(0, len(value), 9))
    yield base64.encodebytes(f"header.{value}.signature".encode() * 2).decode()
    yield "x" * 2_030 + value
    for before in ("", "1", "22"):
        yield base64.urlsafe_b64encode(f"{before}{value}".encode()).decode()


def _drive_echoes(here: Canary) -> None:
    value = here.planted.first
    for status in (200, 400, 401, 404, 500):
        here.plan(kind="echo-token", status=status)
        here.link()
    for text in _said_back(value):
        here.plan(kind="status", status=422, body=text, content_type=f"text/plain; name={quote(value)}")
        here.link()
    here.plan(kind="garbage", bodies=[value, json.dumps([value])])
    here.link()
    here.plan(kind="garbage-http", raw=f"HTTP/1.1 2{value}00 {value}\r\n{value}: {value}\r\n\r\n{value}")
    here.link()
    here.plan(kind="oversize", size=2**21)
    here.link()
    for status in (301, 302, 307, 308):
        here.plan(kind="redirect", location=f"{here.upstream.stranger}/orders/link?t={quote(value)}", status=status)
        here.link()


def _drive_codes(here: Canary) -> None:
    """What takes a certain state of the lane: a token refused, a lane that pauses, time that runs out."""
    value = here.planted.first
    for _ in range(3):
        here.plan(kind="status", status=403, body=value)
    for _ in range(4):
        here.link()
    here.run("token resume", "shop")
    here.plan(kind="latency", back=1.5)
    here.link(Prefer="wait=1")
    for _ in range(20):
        here.plan(kind="reset-before")
    here.link(Prefer="wait=1")
    here.forget_faults()
    here.link(name="asleep")
    for _ in range(2):
        here.link(caller="hasty")
    here.link(caller="outsider")
    bearer = ("Authorization", f"Bearer {here.keys['service']}")
    odd: list[tuple[str, tuple[tuple[str, str], ...]]] = [
        ("orderIds=1", ()),
        ("", (("Gateway-Token", "shop"),)),
        ("orderIds=1" * 2_000, ()),
        ("orderIds=1", (("Gateway-Token", "shop"), ("Gateway-Token", "spare"))),
        ("orderIds=1", tuple((f"X-{number}", value) for number in range(100))),
        ("orderIds=1", (("Host", "elsewhere"),)),
    ]
    for query, headers in odd:
        here.ask("a call", Ask("PATCH", f"/orders/link?{query}", (bearer, *headers)))
    here.ask("a call", Ask("PATCH", "/orders/link?orderIds=1", (bearer, ("Gateway-Token", "shop")), value.encode()))
    for query in ("orderIds=1001", "orderIds=1002"):
        here.ask("a call", Ask("PATCH", f"/orders/link?{query}", (bearer, ("Gateway-Token", "shop"), ("Idempotency-Key", f'"{value}"'))))
    here.plan(kind="rate-limited", retry_after=value, token="spare")
    here.link(name="spare")
    here.plan(kind="rate-limited", retry_after="60", token="spare")
    here.link(name="spare", Prefer="wait=5")
    here.link(name="spare", Prefer="wait=1")


def _drive_pages(here: Canary) -> None:
    """A ticket that is used well, with other IDs, and from other pages."""
    value = here.planted.first
    proof = (("Authorization", f"Bearer {here.keys['pages']}"), ("Content-Type", "application/json"))
    for asked in ({"origin": PAGE, "ids": [1001]}, {"origin": value}, {"origin": PAGE, "token": value}, {"origin": PAGE, value: value}):
        given = here.ask("POST /gateway/tickets", Ask("POST", "/gateway/tickets", proof, json.dumps(asked).encode()))
        if "ticket" in given.json():
            ticket = {"Authorization": f"Bearer {given.json()['ticket']}"}
    for query, origin in (("orderIds=1001", PAGE), ("orderIds=1002", PAGE), ("orderIds=1001", quote(value))):
        here.link(query, Origin=origin, **ticket)
    preflight = (("Origin", quote(value)), ("Access-Control-Request-Method", "PATCH"))
    here.ask("a preflight", Ask("OPTIONS", "/orders/link", preflight))


def _drive_texts(here: Canary) -> None:
    """A value or a key where callers put texts of their own: a request's ID, and a path."""
    key, bearer = here.keys["service"], ("Authorization", f"Bearer {here.keys['admin']}")
    for secret in (here.planted.first, here.planted.declared, key, key[KEYS_ID:]):
        here.link(**{"X-Request-ID": secret})
        for path in ("/", "/orders/", "/gateway/admin/tokens/", "/gateway/admin/audit/"):
            for proof in ((), (bearer,)):
                here.ask("a path", Ask("GET", path + quote(secret, safe=""), proof))
    for secret in (here.planted.first, here.planted.declared, key):
        here.ask("a stranger", Ask("GET", "/gateway/me", (("X-Request-ID", secret),)))
    here.link("channelIds=1&orderIds=1", **{"X-Request-ID": key})


def _drive_declaration(here: Canary, server: Process, folder: Path) -> None:
    """A configuration file that somebody put the value into, which is refused, and the file as it was."""
    kept = declared_in(folder).read_text(encoding="ascii")
    value = json.dumps(here.planted.declared)
    for number, wrong in enumerate((f"tokens: [{{name: from-git, kind: account, value: {value}}}]", f"{value}: {value}", value), start=1):
        declared_in(folder).write_text(wrong, encoding="ascii")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_line("the configuration file is wrong", number)
        here.run("check", "--offline", "--json")
    declared_in(folder).write_text(kept, encoding="ascii")
    here.run("check")
    here.run("check", "--json")


def _drive_commands(here: Canary) -> None:
    run, values = here.run, here.planted
    for name in ("token", "caller"):
        run(f"{name} list")
        run(f"{name} list", "--json")
    for name, subject in (("token", "shop"), ("caller", "service")):
        run(f"{name} show", subject)
        run(f"{name} show", subject, "--json")
    run("token rotate", "spare", given=values.rotated)
    run("token rotate", "spare", given=values.first)
    run("token rotate", "spare", given=f"{values.offered}\n{values.offered}")
    run("token enable", "asleep")
    run("caller rotate-key", "outsider")
    run("caller grant", "outsider", "shop:link-orders")
    run("caller revoke", "outsider", "shop")
    run("caller set", "outsider", "--claim", f"azp={values.offered[:8]}")
    run("caller disable", "outsider")
    run("caller enable", "outsider")
    run("token set", "shop", "--pacing", "proven")
    run("token set", "from-git", "--rate", "3")
    for name in ("shop", "spare"):
        run("token test", name)
        run("token test", name, "--json")
    run("key new")
    run("vault status")
    run("vault reseal")
    run("lanes")
    run("lanes", "--json")
    run("db current")
    run("openapi")
    for arguments in ((), ("--json", "--limit", "10000"), ("--token", "shop", "--json")):
        run("audit list", *arguments)
    for form in ("jsonl", "csv"):
        run("audit export", "--format", form)
    for record in json.loads(run("audit list", "--json", "--limit", "10000")):
        if record["name"] == "token:echoed":
            run("audit show", record["id"])
            run("audit show", record["request_id"], "--json")
    run("audit prune", "--before", "2026-01-01", "--yes")
    run("audit verify")
    run("audit verify", "--json")
    run("audit anchor")
    run("audit key")


def _drive_batches(here: Canary, folder: Path) -> None:
    """Batches by command: one that is linked, one that is refused with the token in its words, files that hold it."""
    run, value = here.run, here.planted.first
    folder.mkdir()
    asked = ("--param", "orderIds", "--token", "shop", "--file", "-")
    here.shell.set(URL=here.url, KEY=here.keys["service"])
    for given in (value, f"{value}\n1001", f"id\n{value}", f"{value[0]}\n1001"):
        run("link", *asked, given=given)
        run("link", *asked, "--dry-run", given=given)
    run("link", *asked, "--output", str(folder / "result.jsonl"), given="1001\n1002")
    for _ in range(3):
        here.plan(kind="status", status=422, body=value)
    run("link", *asked, "--output", str(folder / "result.csv"), given="1003")
    run("link", "--resume", value)
    run("link", *asked, "--operation", value, given="1001")
    for url in (here.url, ""):
        here.shell.set(URL=url)
        run("jobs list")
        for job in json.loads(run("jobs list", "--json")):
            run("jobs show", job["id"])
            run("jobs cancel", job["id"], "--json")
        run("jobs show", value)


def _drive_routes(here: Canary, folder: Path) -> None:
    app = create_app(settings_for(folder))
    credentials = tuple(("Authorization", f"Bearer {here.keys[name]}") for name in ("service", "admin"))
    drive = Drive(app.openapi(), credentials, here.planted.offered, here.planted.first)
    for method, path in routes_of(app):
        for one in drive.asks(method, path):
            here.ask(f"{method} {path}", one)


def _codes(haul: Haul) -> set[str]:
    answered = re.findall(r'"/gateway/problems/([a-z0-9-]+)"', haul.text("answer"))
    printed = re.findall(r"^([a-z-]+): ", haul.text("error"), re.MULTILINE)
    return {re.sub(r"upstream-\d+", "upstream-4xx", code) for code in (*answered, *printed)}


def _live(here: Canary, server: Process, state: Path) -> None:
    """What there is to see only while the server runs: the database's log, its socket, its process."""
    assert control_path(state).is_socket()
    assert any(path.suffix == ".db-wal" for path in state.iterdir())
    here.haul.add_folder(state)
    here.haul.add_process(server.process.pid)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    """A shell with a state folder that isn't there yet."""
    return Shell(monkeypatch, capsys, tmp_path / "state")


def test_no_token_comes_out(tmp_path: Path, shell: Shell) -> None:
    """A planted token is driven through everything that there is, and stands in nothing that came out, in no form."""
    with canary(tmp_path, shell) as (here, state, variables):
        port = free_port()
        here.url = f"http://127.0.0.1:{port}"
        with started("serve", "--port", str(port), variables=variables, folder=tmp_path / "logs") as server:
            server.wait_for(f"{here.url}/gateway/health/ready")
            _drive_echoes(here)
            _drive_codes(here)
            _drive_pages(here)
            _drive_batches(here, tmp_path / "results")
            _drive_texts(here)
            _drive_commands(here)
            _drive_declaration(here, server, tmp_path)
            _drive_routes(here, tmp_path / "described")
            _live(here, server, state)
            status = server.stop()
        here.run("token remove", "asleep")
        here.run("caller remove", "outsider")
        here.haul.add("serve's output", server.out)
        here.haul.add("serve's errors", server.err)
        here.haul.add_folder(state)
        here.haul.add_folder(tmp_path / "results")

    assert status == 0
    assert here.haul.finds(here.planted.searcher) == []
    assert _keys_found(here) == []
    assert here.upstream.received == []
    _assert_driven(here)


def _keys_found(here: Canary) -> list[str]:
    """Where a caller's key, or its secret half, stands but in the output of the command that made it."""
    secrets_of_keys = [key[KEYS_ID:].encode() for key in here.keys.values()]
    shown = ("command caller add", "command caller rotate-key")
    return [name for name, content in here.haul.parts if name not in shown and any(one in content for one in secrets_of_keys)]


def _assert_driven(here: Canary) -> None:
    """It came through what it was meant to come through: an empty search shows nothing."""
    log = here.haul.text("serve's errors")
    assert commands.commands() - here.run.ran - {"serve"} == set(commands.NOT_DRIVEN)
    assert set(PROBLEMS) - _codes(here.haul) <= set(UNDRIVEN_CODES), "a problem that nobody drives"
    assert here.haul.text("answer").count("•••") > 20
    assert log.count("it was taken out") > 20
    assert here.haul.text("file gateway.db").count("token:echoed") > 20
    assert "token:echoed" in here.haul.text("command audit list")
    assert "GATEWAY_LOG_LEVEL=DEBUG" in here.haul.text("environ of process")
