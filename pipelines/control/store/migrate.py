"""Brings a database up to date, by the steps in migrations/versions. There is no way back but a backup."""

from __future__ import annotations

import uuid
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.errors import ConfigError

from .database import Database
from .tables import log

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


def configuration(connection: Connection) -> Config:
    """What Alembic is told."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _take_steps(connection: Connection, where: str) -> None:
    config = configuration(connection)
    steps = ScriptDirectory.from_config(config)
    taken = MigrationContext.configure(connection).get_current_heads()
    if list(taken) == steps.get_heads():
        return
    known = {step.revision for step in steps.walk_revisions()}
    if unknown := sorted(set(taken) - known):
        raise ConfigError(
            "the database is of a newer version of this program",
            where=where,
            why=f"it is at {', '.join(unknown)}, and this program knows {', '.join(steps.get_heads())}",
            fix="start the newer version, or restore the backup that was made before it",
        )
    command.upgrade(config, "head")
