"""Runs and events for the tests of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert

from pipelines.control.store.database import Database, now
from pipelines.control.store.events import Event, NewEvent, append, page
from pipelines.control.store.tables import run


async def make_run(database: Database, name: str = "demo", **columns: Any) -> str:
    """A row of a run."""
    async with database.write() as connection:
        await connection.execute(
            insert(run).values(**{"id": name, "state": "running", "created": now(), **columns})
        )
    return name


def line(n: int, producer: str = "folder", *, channel: str = "logs", text: str = "") -> NewEvent:
    """An event that is a line of a log."""
    data = {"kind": "log", "lines": [text or f"{producer} {n}"], "source": "task", "end": 0}
    return NewEvent(channel, "bitnet", 1, producer, n, 1764460800.0 + n, data)


def lines(numbers: Sequence[int], producer: str = "folder") -> list[NewEvent]:
    return [line(n, producer) for n in numbers]


async def write(
    database: Database, name: str, events: Sequence[NewEvent], *, epoch: int | None = None
) -> list[Event]:
    """One transaction of its own."""
    async with database.write() as connection:
        return await append(connection, name, events, epoch=epoch)


async def whole(database: Database, name: str, limit: int = 1000) -> list[Event]:
    """All of a run's events, page by page."""
    found: list[Event] = []
    while batch := await page(database, name, found[-1].seq if found else 0, limit):
        found += batch
    return found
