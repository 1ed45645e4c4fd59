"""Stopping a server, holding the state folder, and who works on it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from app.administration import Administration
from app.cli import serving
from app.cli.certificate import Certificate
from app.cli.serving import ServingLoop, StoppingServer, free_port, gateway_config, in_background, locked
from app.cli.state import administer
from app.domain import TokenKind, TokenValue
from app.errors import StartRefused
from app.vault import NewToken, TokenRow
from tests.servers.authority import Authority

from .shell import Shell


def test_the_first_signal_stops_in_order_and_the_second_at_once() -> None:
    """Whoever is asked to stop is told once, and a second signal doesn't wait for what is under way."""
    told: list[str] = []
    server = StoppingServer(uvicorn.Config("none:none"), lambda: told.append("stop"))
    states = []
    for _ in range(2):
        server.stop()
        states.append((server.should_exit, server.force_exit))

    assert states == [(True, False), (True, True)]
    assert told == ["stop"]


def test_a_handshake_that_doesnt_come_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects and says nothing is hung up on, where TLS is spoken, as it is where it isn't."""
    monkeypatch.setattr(serving, "HANDSHAKE_SECONDS", 0.2)
    tls = Certificate(*Authority(tmp_path).make(tmp_path / "pair", "gateway")).context
    config = gateway_config(PlainTextResponse("never"), host="127.0.0.1", port=0, grace=0, tls=tls)

    async def silent() -> bytes:
        listening = free_port()
        address = listening.getsockname()
        async with in_background(config, listening), asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*address)
            said = await reader.read()
            writer.close()
        return said

    with asyncio.Runner(loop_factory=ServingLoop) as runner:
        assert runner.run(silent()) == b""


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    """While a state folder or a database is held nobody else gets it, and afterwards the next one does."""
    database = tmp_path / "gateway.db"
    same_folder = pytest.raises(StartRefused, match=rf"process {os.getpid()}\) serves from .*state: one process a state folder")
    same_database = pytest.raises(StartRefused, match=rf"process {os.getpid()}\) serves from .*gateway.db: one process a state folder")
    with locked(tmp_path / "state", database), same_folder, locked(tmp_path / "state", tmp_path / "other.db"):
        pass
    with locked(tmp_path / "state", database), same_database, locked(tmp_path / "other", database):
        pass
    with locked(tmp_path / "state", database):
        pass

    assert (tmp_path / "state" / "serve.lock").read_text(encoding="utf-8") == str(os.getpid())


def test_a_holder_that_hasnt_told_its_number_is_unknown(tmp_path: Path) -> None:
    """Between taking the folder and writing its number, a holder is refused for as unknown."""
    with locked(tmp_path, tmp_path / "gateway.db"):
        (tmp_path / "serve.lock").write_text("", encoding="utf-8")
        with pytest.raises(StartRefused, match=r"process unknown\)"), locked(tmp_path, tmp_path / "gateway.db"):
            pass


def test_a_free_port_is_held() -> None:
    """A free port is bound already, so that nobody else takes it, on the loopback only."""
    with free_port() as one, free_port() as other:
        addresses = [one.getsockname(), other.getsockname()]

    assert [host for host, _ in addresses] == ["127.0.0.1"] * 2
    assert len(set(addresses)) == 2


def test_a_user_without_a_name_is_on_record_all_the_same(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container a user often has a number only; its changes are then recorded as an unknown user's."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)

    async def add(administration: Administration) -> TokenRow:
        return await administration.add_token(NewToken("shop", TokenKind.ACCOUNT, TokenValue("a-token-value-0001")))

    administer(add)

    assert shell("audit", "list", "--json").document[0]["by"] == "command:unknown"
