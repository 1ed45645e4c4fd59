"""What requests for jobs and with keys are told where the database fails."""

from __future__ import annotations

import pytest

from app.errors import AuditUnavailable
from app.jobs.refusing import or_refused
from app.storage import open_engine, reading
from tests.servers.postgres import Postgres
from tests.servers.proxy import proxied


async def test_a_database_that_falls_silent_is_not_waited_for_for_ever(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many waits a request's transaction has, the request is refused when they take too long together."""
    monkeypatch.setattr("app.jobs.refusing.LONGEST_SECONDS", 0.2, raising=False)
    name = postgres_server.new_database().rpartition("/")[2]
    with proxied(postgres_server.port) as proxy:
        engine = open_engine(postgres_server.address_of(name, proxy.port))

        async def ask() -> None:
            async with or_refused(reading(engine), "it can't be done") as connection:
                proxy.strand()
                await connection.exec_driver_sql("SELECT 1")

        with pytest.raises(AuditUnavailable, match=r"^it can't be done; ask again") as refused:
            await ask()
        await engine.dispose()

    assert str(refused.value.__cause__) == "it took over 0.2 s"
