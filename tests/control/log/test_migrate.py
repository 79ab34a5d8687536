"""The database's steps: both databases end at the tables as they are declared, whoever starts and however often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    String,
    create_engine,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from components.shared.runtime.errors import ConfigError
from pipelines.control.store import migrate
from pipelines.control.store.database import Database, now
from pipelines.control.store.tables import METADATA, audit, log


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database without a table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty' / 'control.db'}"
        return
    server = request.getfixturevalue("postgres_server")
    server.sql("CREATE DATABASE empty")
    yield server.url("empty")
    server.sql("DROP DATABASE empty WITH (FORCE)")


async def test_the_steps_make_the_tables_as_they_are_declared(empty_url: str) -> None:
    database = Database(empty_url)
    await migrate.upgrade(database)

    def difference(connection: Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection), METADATA)

    async with database.read() as connection:
        assert await connection.run_sync(difference) == [], (
            "the tables have changed: python -m scripts.migration 'What they have now'"
        )
    await database.close()


def test_a_column_that_no_step_makes_is_seen(sqlite_template: Path) -> None:
    """The steps stand for themselves: they do not follow the declaration, which has got one more here."""
    declared = MetaData(naming_convention=METADATA.naming_convention)
    for table in METADATA.tables.values():
        table.to_metadata(declared)
    declared.tables["run"].append_column(Column("colour", String(16)))
    engine = create_engine(f"sqlite:///{sqlite_template}")
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), declared)
    engine.dispose()
    assert [(what, table, column.name) for what, _, table, column in found] == [
        ("add_column", "run", "colour")
    ]
    for step in (migrate.MIGRATIONS / "versions").glob("[0-9]*.py"):
        assert "store.tables" not in step.read_text(), "a step makes what it made when it was written"


async def test_replicas_that_start_together_make_one_log(empty_url: str) -> None:
    replicas = [Database(empty_url) for _ in range(3)]
    names = await asyncio.gather(*map(migrate.upgrade, replicas))
    assert len(set(names)) == 1
    for replica in replicas:
        await replica.close()


async def test_a_second_start_changes_nothing(database: Database) -> None:
    first = await migrate.upgrade(database)
    assert await migrate.upgrade(database) == first


async def test_a_log_that_is_taken_away_gets_another_name(database: Database) -> None:
    first = await migrate.upgrade(database)
    async with database.write() as connection:
        await connection.execute(delete(log))
    assert await migrate.upgrade(database) != first


async def test_a_newer_database_is_refused_and_left_as_it_is(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="newer version"):
        await migrate.upgrade(database)
    async with database.read() as connection:
        assert await connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


async def test_the_audit_is_only_added_to(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(audit).values(time=now(), action="login", outcome="refused"))
    for change in (update(audit).values(outcome="done"), delete(audit)):
        with pytest.raises(DBAPIError, match="only added to"):
            async with database.write() as connection:
                await connection.execute(change)
    async with database.read() as connection:
        assert await connection.scalar(select(audit.c.outcome)) == "refused"


def test_the_steps_follow_each_other_and_have_no_way_back() -> None:
    steps = list(ScriptDirectory(str(migrate.MIGRATIONS)).walk_revisions())
    assert [step.revision for step in steps] == [f"{number:04d}" for number in range(len(steps), 0, -1)]
    assert not any(hasattr(step.module, "downgrade") for step in steps)
