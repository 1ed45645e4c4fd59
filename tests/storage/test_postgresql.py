"""The connection to PostgreSQL for work in a thread, before a real server that stands still."""

from __future__ import annotations

import gc
import warnings
from contextlib import closing

import pytest
from sqlalchemy import make_url

from app.storage import StorageError
from app.storage.postgresql import PostgresConnection
from tests.servers.postgres import Postgres, postgres

from .standby import unpromoted


def test_nothing_is_left_open_of_a_server_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the connection is, nor the one by which the driver asks the server to break the statement off."""
    monkeypatch.setattr("app.storage.postgresql.STATEMENT_SECONDS", 0.4)
    monkeypatch.setattr("app.storage.postgresql.CLOSE_SECONDS", 0.05)
    with postgres() as server, warnings.catch_warnings(record=True, action="always") as left:
        connection = PostgresConnection(make_url(server.new_database()))
        with server.paused(), closing(connection), pytest.raises(StorageError, match="doesn't answer"):
            connection.execute("SELECT 1")
        del connection
        gc.collect()

    assert [str(one.message) for one in left] == []


def test_nothing_is_left_open_of_a_server_that_is_not_promoted_yet(postgres_server: Postgres) -> None:
    """What the driver says then is the database's refusal too, and the connection's loop is closed."""
    address = postgres_server.new_database()
    with unpromoted(postgres_server, address), warnings.catch_warnings(record=True, action="always") as left:
        with pytest.raises(StorageError, match="None of the hosts match the target"):
            PostgresConnection(make_url(f"{address}?target_session_attrs=read-write"))
        gc.collect()

    assert [str(one.message) for one in left] == []
