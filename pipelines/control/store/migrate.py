"""Brings a database up to date, by the steps in migrations/versions. There is no way back but a backup."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.errors import ConfigError

from .database import Database
from .tables import log

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"

ONE_AT_A_TIME = 0x464F524745
"""The advisory lock of Postgres under which replicas that start together migrate one after the other."""


async def upgrade(database: Database) -> str:
    """Take the steps that are missing, all or none of them, while others that start wait.

    :returns: the name of the database's log of events.
    :raises ConfigError: the database has steps behind it that this program does not know.
    :raises StoreError: it does not answer.
    """
    async with database.write() as connection:
        if not database.sqlite:
            await connection.execute(select(func.pg_advisory_xact_lock(ONE_AT_A_TIME)))
        await connection.run_sync(_take_steps, database.url.render_as_string())
        return await log_name(connection)


async def log_name(connection: AsyncConnection) -> str:
    """The name of the database's log of events, made where it has none: at first, and when somebody has taken it away.

    Whoever restores a database from a backup takes it away, so that readers begin anew.
    """
    name: str | None = await connection.scalar(select(log.c.name))
    if name is None:
        name = uuid.uuid4().hex
        await connection.execute(insert(log).values(id=1, name=name))
    return name


def newest() -> str:
    """The step that this program ends at, by the files' names: Alembic costs 10 MB, and mostly nothing is to do."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def configuration(connection: Connection) -> Config:
    """What Alembic is told."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _take_steps(connection: Connection, where: str) -> None:
    taken: str | None = None
    if inspect(connection).has_table("alembic_version"):
        taken = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if taken == newest():
        return
    if taken is not None and taken > newest():
        raise ConfigError(
            "the database is of a newer version of this program",
            where=where,
            why=f"it is at step {taken}, and this program knows {newest()}",
            fix="start the newer version, or restore the backup that was made before it",
        )
    from alembic import command

    command.upgrade(configuration(connection), "head")
