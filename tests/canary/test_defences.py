"""The canary sees: with each defence taken away in turn, the same search finds the token; with all in place it finds nothing.

The gateway runs in this process, so that a defence can be taken away, with careless routes added, which hold a value in their hands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from app.api.paths import ShownPaths
from app.callers import GrantAsked, NewCaller
from app.callers.presented import Presented
from app.domain import Garbled, Outcome, Stamps, TokenKind, TokenValue
from app.errors import UpstreamTokenPresented
from app.simulator.tokens import SimulatedToken
from app.telemetry import configure_logs
from app.upstream.scrub import Scrubber
from app.upstream.wire import Answer, Wire
from app.vault import Keyring, NewToken
from app.vault.keyring import Sealed
from tests import loopback
from tests.canary.careless import ROUTES, add_careless_routes
from tests.canary.haul import Haul
from tests.canary.searching import Searcher
from tests.canary.test_process import planted
from tests.canary.upstream import Hosts, hosts
from tests.rig import Rig, rigged

Patch = pytest.MonkeyPatch


def answers_are_not_scrubbed(patch: Patch) -> None:
    """What Flxpoint says of a token comes through."""
    patch.setattr(Scrubber, "scrub", lambda _, text: (text, 0))


def lines_hide(patch: Patch) -> None:
    """The scrubber reads a text as it stands."""
    patch.setattr("app.upstream.scrub._joined", lambda text: text)


def wide_characters_hide(patch: Patch) -> None:
    """Control characters are left between letters."""
    patch.setattr("app.upstream.classify.readable", lambda body: body.decode("utf-8", errors="replace"))


def failures_are_told_in_full(patch: Patch) -> None:
    """The HTTP client's own message is passed on."""

    def told(cause: BaseException, *, written: bool) -> Outcome:
        assert written
        return Garbled(str(cause), None)

    patch.setattr("app.upstream.client._failure", told)


def values_show_themselves(patch: Patch) -> None:
    """A value is a text like any other."""
    for name in ("__repr__", "__str__"):
        patch.setattr(TokenValue, name, TokenValue.reveal)
    patch.setattr(TokenValue, "__format__", lambda value, spec: format(value.reveal(), spec))


def values_are_pickled(patch: Patch) -> None:
    """A value goes into a file as any object does."""
    patch.delattr(TokenValue, "__reduce__")


def values_are_not_sealed(patch: Patch) -> None:
    """The database holds them as they are."""
    patch.setattr(Keyring, "seal", lambda _, secret, place: Sealed("k", place.encode()[:12], secret))
    patch.setattr(Keyring, "open", lambda _, sealed, _place: sealed.ciphertext)


def tracebacks_show_locals(patch: Patch) -> None:
    """A failure is logged with all that was at hand."""
    shown = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=True))
    patch.setattr("app.telemetry.logs._renderers", lambda *, as_json: [shown, structlog.processors.JSONRenderer()] if as_json else [])


def presented_tokens_are_repeated(patch: Patch) -> None:
    """Whoever sends a token is told which."""

    def repeated(presented: Presented) -> NoReturn:
        message = f"{presented.x_api_token} is no credential of the gateway's"
        raise UpstreamTokenPresented(message)

    patch.setattr("app.callers.authentication.credential_of", repeated)


def names_are_repeated(patch: Patch) -> None:
    """A parameter's name is said back, however long."""
    patch.setattr("app.catalogue.rule._shown", lambda name: name)


def request_ids_are_repeated(patch: Patch) -> None:
    """Whatever a caller calls its request is said back."""
    patch.setattr("app.api.frame.request_id_of", lambda headers, _: dict(headers).get(b"x-request-id", b"none").decode())


def paths_are_logged(patch: Patch) -> None:
    """A path is logged as it came."""
    patch.setattr(ShownPaths, "__call__", lambda _, path: path)


def redirects_are_followed(patch: Patch) -> None:
    """A send goes where Flxpoint's answer says, with the headers that it had."""
    exchange = Wire.exchange

    async def follow(wire: Wire, request: bytes, stamps: Stamps, *, most_bytes: int, read: Callable[[Answer], Awaitable[Any]]) -> Any:
        headers = dict(line.split(": ", 1) for line in request.decode().strip().split("\r\n")[1:])

        async def followed(answer: Answer) -> Any:
            async with loopback.async_client() as client:
                for location in [field for name, field in answer.headers if name == "Location"]:
                    await client.get(location, headers={"X-API-TOKEN": headers["X-API-TOKEN"]})
            return await read(answer)

        return await exchange(wire, request, stamps, most_bytes=most_bytes, read=followed)

    patch.setattr(Wire, "exchange", follow)


DEFENCES: dict[Callable[[Patch], None], str] = {
    answers_are_not_scrubbed: "answer to a call",
    lines_hide: "answer to a call",
    wide_characters_hide: "answer to a call",
    failures_are_told_in_full: "answer to a call",
    values_show_themselves: "log",
    values_are_pickled: "file kept",
    values_are_not_sealed: "file gateway.db",
    tracebacks_show_locals: "log",
    presented_tokens_are_repeated: "answer to a stranger",
    names_are_repeated: "file gateway.db",
    request_ids_are_repeated: "answer to a call",
    paths_are_logged: "log",
}
"""What takes each defence away, and where the token is found then."""


@contextmanager
def upstream(value: str) -> Iterator[Hosts]:
    """A simulated Flxpoint that knows the token."""
    with hosts(SimulatedToken("shop", value, "account")) as made:
        yield made


def _faults(value: str, stranger: str) -> list[dict[str, Any]]:
    """Each way in which Flxpoint says the token back that some defence alone withstands."""
    return [
        {"kind": "echo-token", "status": 400},
        {"kind": "echo-token", "status": 200},
        {"kind": "status", "status": 404, "body": "\0".join(value)},
        {"kind": "status", "status": 404, "body": "\n".join((value[:10], value[10:20], value[20:]))},
        {"kind": "garbage-http", "raw": f"HTTP/1.1 {value}\r\n\r\n"},
        {"kind": "redirect", "location": f"{stranger}/?{quote(value)}", "status": 307},
    ]


async def drive(folder: Path, made: Hosts, value: str) -> Haul:
    """Run a gateway through all that the defences are for, and keep what came out."""
    haul = Haul()
    async with rigged(folder, (), upstream_url=made.url) as rig:
        add_careless_routes(rig.app)
        await _prepare(rig, value)
        for fault in _faults(value, made.stranger):
            await rig.client.post(f"{made.url}/_simulator/faults", json=fault | {"count": 1})
            haul.add_answer("answer to a call", await rig.link("orderIds=1001", Prefer="wait=5"))
        haul.add_answer("answer to a call", await rig.link(f"{quote(value)}=1"))
        haul.add_answer("answer to a call", await rig.link(f"orderIds={quote(value)}"))
        haul.add_answer("answer to a call", await rig.link("orderIds=1002", X_Request_ID=value))
        haul.add_answer("answer to a path", await rig.client.get(f"{rig.url}/orders/{quote(value, safe='')}"))
        haul.add_answer("answer to a stranger", await rig.client.get(f"{rig.url}/gateway/admin/lanes", headers={"X-API-TOKEN": value}))
        for path in ROUTES:
            haul.add_answer(f"answer to {path}", await rig.client.get(rig.url + path))
        await rig.records()
        haul.add_folder(folder)
    haul.add_folder(folder)
    return haul


async def _prepare(rig: Rig, value: str) -> None:
    token = NewToken("shop", TokenKind.ACCOUNT, TokenValue(value), rate=1_000)
    await rig.administer(lambda administration: administration.add_token(token))
    _, key = await rig.administer(lambda administration: administration.add_caller(NewCaller("second", (GrantAsked("shop"),))))
    rig.key = key.reveal()


async def searched(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], Haul, list[bytes]]:
    """Where a planted token was found, what was searched, and what reached the stranger."""
    value = planted()
    with upstream(value) as made:
        capsys.readouterr()
        configure_logs("DEBUG", as_json=True)
        haul = await drive(folder, made, value)
        haul.add("log", "".join(capsys.readouterr()))
    return haul.finds(Searcher(value)), haul, made.received


async def test_with_all_defences_nothing_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even by a careless hand: what came out holds masks where the value would have stood."""
    found, haul, received = await searched(tmp_path, capsys)

    assert found == []
    assert received == []
    assert haul.text("answer to /careless/answer").count("•••") == 3
    assert haul.text("answer to /careless/fail").startswith("500 ")
    assert haul.text("log").count(r"\u2022\u2022\u2022") >= 5
    assert "headers are too many" in haul.text("log")
    assert haul.text("answer to a call").count("•••") > 3
    assert "call:refused" in haul.text("file gateway.db")


@pytest.mark.parametrize(("remove", "source"), DEFENCES.items(), ids=lambda part: getattr(part, "__name__", ""))
async def test_without_a_defence_the_token_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Patch, remove: Callable[[Patch], None], source: str
) -> None:
    """Each stands for itself: no other defence makes up for it, and the search sees what it let out."""
    remove(monkeypatch)
    found, _, _ = await searched(tmp_path, capsys)

    assert [one for one in found if one.startswith(source)]


async def test_with_redirects_followed_a_stranger_gets_the_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Patch
) -> None:
    """The strange host sees what reaches it: nothing as long as no redirect is followed."""
    redirects_are_followed(monkeypatch)
    _, _, received = await searched(tmp_path, capsys)

    assert any(b"x-api-token" in head.lower() for head in received)
