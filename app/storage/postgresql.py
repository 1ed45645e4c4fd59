"""PostgreSQL: how its sessions are set up, and the connection for work in a thread."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import URL
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import OperationalError

from app.storage.connection import Dialect, Rows, StorageError, Taken
from app.storage.locks import RECORD

__all__ = ["REFUSALS", "PostgresConnection", "connect", "in_postgresql", "leave"]

T = TypeVar("T")

CONNECT_SECONDS = 2.0
STATEMENT_SECONDS = 5.0
LOCK_SECONDS = 5.0
IDLE_SECONDS = 4.0
"""Less than what others wait for a lock."""

CLOSE_SECONDS = 1.0
LOOK_SECONDS = 0.05
SESSION = {
    "application_name": "flxpoint-gateway",
    # What a process held that stands still, or is cut off, others get after this.
    "idle_in_transaction_session_timeout": f"{IDLE_SECONDS:g}s",
    "jit": "off",
    "lock_timeout": f"{LOCK_SECONDS:g}s",
    "statement_timeout": f"{STATEMENT_SECONDS:g}s",
    # A commit that returned is on the server's disk.
    "synchronous_commit": "on",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
READ_ONLY = {"default_transaction_read_only": "on"}
PATIENT = {"idle_in_transaction_session_timeout": "0", "statement_timeout": "0"}
SQLALCHEMYS_OWN = {"async_creator_fn", "async_fallback", "prepared_statement_cache_size", "prepared_statement_name_func"}

OPTIONS = {"host", "port", "user", "password", "database", "ssl", "passfile", "target_session_attrs"}
"""What an address may tell the driver."""

BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
BEGIN_WRITING = f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({RECORD})"
CHANGED = re.compile(r"\d+$")

REFUSALS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What the driver raises where the server refuses, isn't the kind that is asked for, is gone or doesn't answer in time."""

FORMS = (
    (r"CASE typeof\(body\) WHEN 'text' THEN (.+?) ELSE x'' END", r"\1"),
    (r"CAST\(body AS BLOB\)", r"convert_to(body, 'UTF8')"),
    (r"CAST\((hash|signature) AS BLOB\)", r"\1"),
    (r"json_extract\(body, '\$\.(\w+)'\)", r"record_member(body, '\1')"),
    (r"json_array_length\(body, '\$\.(\w+)'\)", r"(SELECT count(*) FROM record_list(body, '\1'))"),
    (r"json_each\(\?\)", r"json_members(?::json) AS value"),
    (r"json_each\(body, '\$\.(\w+)'\)", r"record_list(body, '\1') AS value"),
)
"""What SQLite says in another way, as patterns. The functions are those of the migration 0004."""


@lru_cache(maxsize=1_000)
def in_postgresql(sql: str) -> str:
    """A statement as PostgreSQL takes it: with `$1` for the first `?`, and so on. No statement of ours has a `?` that is none."""
    for sqlites, ours in FORMS:
        sql = re.sub(sqlites, ours, sql)
    places = count(1)
    return re.sub(r"\?", lambda _: f"${next(places)}", sql)


async def connect(url: URL, *, read_only: bool = False, patient: bool = False) -> Any:  # noqa: ANN401 - the driver has no types
    """Connect to the server, in 2 s at most.

    Args:
        url: as SQLAlchemy takes it, and understood as it does.
        read_only: the session can't write.
        patient: statements may take as long as they need; locks may not, since others wait behind who waits for one.

    Raises:
        OperationalError: it can't be reached, or doesn't let the gateway in.
    """
    arguments = _arguments(url)
    session = SESSION | (READ_ONLY if read_only else {}) | (PATIENT if patient else {})
    seconds = None if patient else STATEMENT_SECONDS
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncpg.connect(**arguments, server_settings=session, command_timeout=seconds)
    except REFUSALS as error:
        raise OperationalError(None, None, _told(error)) from error


def _arguments(url: URL) -> dict[str, Any]:
    """What the driver takes of an address.

    Raises:
        OperationalError: there is an option in it that the driver doesn't know.
    """
    _, given = PGDialect_asyncpg().create_connect_args(url)  # type: ignore[no-untyped-call]
    unknown = given.keys() - OPTIONS - SQLALCHEMYS_OWN
    if unknown:
        message = f"there is no option {', '.join(sorted(unknown))}; TLS is asked for by ssl=require or ssl=verify-full"
        refusal = ValueError(message)
        raise OperationalError(None, None, refusal) from refusal
    return {name: value for name, value in given.items() if name in OPTIONS}


async def leave(connection: Any) -> None:  # noqa: ANN401 - as above
    """Disconnect; a server that doesn't answer is left after 1 s."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except REFUSALS:
        connection.terminate()


class PostgresConnection:
    """A connection to PostgreSQL that commits by itself, on an event loop of its own: it is used by one thread, in which no other runs.

    Args:
        url: the database.
        read_only: the session can't write.
        is_vain: asked before and during each statement; where it says so, the statement is broken off.

    Raises:
        StorageError: the server can't be reached.
    """

    dialect = Dialect.POSTGRESQL

    def __init__(self, url: URL, *, read_only: bool = False, is_vain: Callable[[], bool] | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._is_vain = is_vain
        self._statements: dict[str, Any] = {}
        try:
            self._connection = self._loop.run_until_complete(connect(url, read_only=read_only))
        except OperationalError as error:
            self._end()
            raise StorageError(str(error.orig)) from error.orig
        except BaseException:
            self._end()
            raise

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Rows:
        """Execute one statement.

        Raises:
            Taken: a constraint forbids it.
            StorageError
        """
        return self._do(self._execute(in_postgresql(sql), parameters))

    def begin_reading(self) -> None:
        """Begin a transaction that sees one moment."""
        self._do(self._connection.execute(BEGIN_READING))

    def begin_writing(self) -> None:
        """Begin a transaction with the record's lock."""
        self._do(self._connection.execute(BEGIN_WRITING))

    def close(self) -> None:
        """Leave the server; one that doesn't answer is left after 1 s."""
        try:
            self._loop.run_until_complete(leave(self._connection))
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.run_until_complete(_cancel_others())
        self._loop.close()

    async def _execute(self, sql: str, parameters: Sequence[Any]) -> Rows:
        statement = self._statements.get(sql)
        if statement is None:
            statement = self._statements[sql] = await self._connection.prepare(sql)
        rows = await statement.fetch(*parameters)
        changed = CHANGED.search(statement.get_statusmsg())
        return Rows([tuple(row) for row in rows], int(changed[0]) if changed else -1)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.run_until_complete(self._wanted(work) if self._is_vain else work)
        except asyncpg.IntegrityConstraintViolationError as error:
            raise Taken(str(error)) from error
        except REFUSALS as error:
            raise StorageError(str(_told(error))) from _told(error)

    async def _wanted(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work as long as somebody waits for it."""
        assert self._is_vain  # noqa: S101 - only then this is called
        task = self._loop.create_task(work)
        while not task.done():
            if self._is_vain():
                task.cancel()
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
        if task.cancelled():
            message = "nobody waits for it any longer"
            raise StorageError(message)
        return task.result()


async def _cancel_others() -> None:
    """End what the driver does beside: it asks a server over another connection to break a statement off, and waits for it."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    # What they closed is closed with the loop's next turn.
    await asyncio.sleep(0)


def _told(error: Exception) -> Exception:
    """The same with a text that says what is the matter."""
    return error if str(error) else TimeoutError("the server doesn't answer")
