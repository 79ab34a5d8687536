"""What the control plane stands on, for real: Postgres, Redis, and an opened process of it on either database.

=============  =============================================================================================
fixture        what it is
=============  =============================================================================================
postgres       the address of a fresh Postgres database
redis          the address of an emptied Redis
database_url   the address of a fresh database: each test that asks runs on SQLite and on Postgres
database       the same, opened and brought up to date
settings       settings of a process on that database, whose runs are in the test's folder
control        an opened process with those settings
=============  =============================================================================================

Coroutines are run by anyio's plugin (`anyio_mode = "auto"`), fixtures and tests on one loop.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipelines.control.context import Control, opened
from pipelines.control.settings import ControlSettings
from pipelines.control.store import migrate
from pipelines.control.store.database import Database
from pipelines.control.store.tables import METADATA
from tests.control import servers
from tests.needs import lacks


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Postgres]:
    """The server, with a database `forge` that is brought up to date once, and emptied before each test."""
    programs = servers.postgres_programs()
    if programs is None:
        lacks("Postgres is not installed")
    with servers.postgres_server(programs) as server:
        server.sql("CREATE DATABASE forge")
        asyncio.run(_prepare(server.url("forge")))
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.Redis]:
    program = servers.redis_program()
    if program is None:
        lacks("redis-server is not installed")
    with servers.redis_server(program) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(_prepare(f"sqlite:///{path}"))
    return path


@pytest.fixture
def postgres(postgres_server: servers.Postgres) -> str:
    url = postgres_server.url("forge")
    asyncio.run(_empty(url))
    return url


@pytest.fixture
def redis(redis_server: servers.Redis) -> str:
    from redis import Redis

    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        url: str = request.getfixturevalue("postgres")
        return url
    path = tmp_path / "database" / "control.db"
    path.parent.mkdir()
    shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
    return f"sqlite:///{path}"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    await migrate.upgrade(opened)
    yield opened
    await opened.close()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> ControlSettings:
    return ControlSettings(runs=tmp_path / "runs", database_url=database_url)


@pytest.fixture
async def control(settings: ControlSettings) -> AsyncIterator[Control]:
    async with opened(settings) as process:
        yield process


async def _empty(url: str) -> None:
    """Take everything out of a Postgres database but its tables; nobody else is connected to it any more."""
    import asyncpg

    tables = ", ".join(f'"{name}"' for name in METADATA.tables)
    connection = await asyncpg.connect(url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.execute(
        "SET session_replication_role = replica; "  # the audit's triggers refuse otherwise
        f"TRUNCATE {tables} RESTART IDENTITY; UPDATE alembic_version SET version_num = '{migrate.newest()}'"
    )
    await connection.close()


async def _prepare(url: str) -> None:
    """Make the tables, and take the log's name away again: each copy makes its own."""
    from sqlalchemy import delete, text

    from pipelines.control.store.tables import log

    database = Database(url)
    await migrate.upgrade(database)
    async with database.write() as connection:
        await connection.execute(delete(log))
    if database.sqlite:
        async with database.read() as connection:
            await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    await database.close()
