"""The database: transactions that write and connections that read, on SQLite and on Postgres.

SQLite refuses a writer at once, in spite of any timeout, when its transaction began as a reader. So whatever writes begins
with `BEGIN IMMEDIATE`, and in one process one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from components.shared.runtime.errors import ConfigError, StoreError

from ..tls import of_postgres
from .plain_json import plain

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
BUSY_SECONDS = 30.0
CONNECTIONS = 8


class now(FunctionElement[float]):  # a function of SQL, called like one
    """The database's clock, in Unix seconds: the one clock on which replicas agree."""

    type = Float()
    inherit_cache = True
    name = "now_seconds"


@compiles(now, "postgresql")
def _now_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


@compiles(now, "sqlite")
def _now_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    return "(julianday('now') - 2440587.5) * 86400.0"


class Database:
    """A database with the tables of the control plane.

    :param url: sqlite:///path or postgresql://…, with libpq's sslmode where TLS is wanted; a password in it is never shown.
    :raises ConfigError: it is no such address.

    `failed` is called each time that it does not answer.
    """

    def __init__(self, url: str) -> None:
        try:
            address = make_url(url)
            driver = DRIVERS[address.drivername.partition("+")[0]]
        except (ArgumentError, KeyError, ValueError):
            raise ConfigError(
                "the database's address cannot be understood",
                where="DATABASE_URL",
                fix="give sqlite:///file or postgresql://user:password@host:5432/name",
            ) from None
        self.url = address.set(drivername=driver)
        self.sqlite = driver.startswith("sqlite")
        self.engine: AsyncEngine
        if self.sqlite:
            Path(self.url.database or "").parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_async_engine(
                self.url, connect_args={"timeout": BUSY_SECONDS}, json_serializer=plain
            )
            event.listen(self.engine.sync_engine, "connect", _configure_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_immediate)
        else:
            self.url, secured = of_postgres(self.url)
            self.engine = create_async_engine(
                self.url,
                connect_args=secured,
                pool_size=CONNECTIONS,
                max_overflow=CONNECTIONS,
                pool_pre_ping=True,
                json_serializer=plain,
            )
        self.failed: Callable[[], None] = _unheard
        self._writing = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end, undone by an exception. In SQLite one at a time.

        :raises StoreError: the database does not answer.
        """
        with _answering(self.url.render_as_string(), self.failed):
            if self.sqlite:
                async with self._writing, self.engine.begin() as connection:
                    yield connection
            else:
                async with self.engine.begin() as connection:
                    yield connection

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for statements that change nothing; each sees the newest commit.

        :raises StoreError: the database does not answer.
        """
        with _answering(self.url.render_as_string(), self.failed):
            async with self.engine.connect() as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    async def close(self) -> None:
        """End all connections."""
        await self.engine.dispose()


def _unheard() -> None:
    """Nobody counts the failures of this database."""


@contextlib.contextmanager
def _answering(where: str, failed: Callable[[], None]) -> Any:
    try:
        yield
    except (DBAPIError, OSError) as error:
        if isinstance(error, DBAPIError) and not (error.connection_invalidated or _is_lost(error)):
            raise
        failed()
        raise StoreError(
            "the database does not answer",
            where=where,
            why=str(getattr(error, "orig", error))[:300],
            transient=True,
        ) from error


AWAY = ("08", "53", "57P")
"""How the codes of Postgres begin that say: no connection, no room for one, a server that ends or is not there yet."""


def _is_lost(error: DBAPIError) -> bool:
    """Whether the connection or the server is at fault, and not the statement."""
    from sqlalchemy.exc import InterfaceError, OperationalError

    code = str(getattr(error.orig, "sqlstate", None) or "")
    damaged = type(error.orig) is sqlite3.DatabaseError  # the file is no database, or a part of it is broken
    return damaged or isinstance(error, OperationalError | InterfaceError) or code.startswith(AWAY)


def _configure_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # we say when a transaction begins
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
