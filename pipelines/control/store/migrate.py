"""Brings a database up to date."""

from __future__ import annotations

import uuid

from sqlalchemy import insert, select

from .database import Database
from .tables import METADATA, log


async def upgrade(database: Database) -> str:
    """Make the tables that are missing.

    :returns: the name of the database's log of events.
    """
    async with database.write() as connection:
        await connection.run_sync(METADATA.create_all)
        name: str | None = await connection.scalar(select(log.c.name))
        if name is None:
            name = uuid.uuid4().hex
            await connection.execute(insert(log).values(id=1, name=name))
    return name
