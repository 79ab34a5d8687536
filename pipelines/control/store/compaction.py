"""Makes an ended run's events one object beside its artifacts, and takes their rows out of the database.

Killed at any point it leaves the events in one place at least: the object is written whole and read back before the rows
go, in the one transaction that also says where it is. What a killed attempt leaves behind is overwritten by the next.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import delete, select

from components.shared.runtime.errors import DamagedObject
from components.shared.runtime.store.interface import Store
from components.shared.runtime.store.uri import open_store

from . import compacted
from .database import Database, now
from .events import Event, page
from .tables import compaction, event, run
from .upsert import upsert

OVER = ("succeeded", "failed", "cancelled", "lost")
REST_SECONDS = 600.0
"""A run that has ended is left alone so long: whoever watches its end reads it from the ring, and late events come."""

FOLDER = "event-log"


@dataclass(frozen=True)
class Packed:
    """What came of it.

    :param events: that are in the object.
    :param bytes: of it.
    """

    events: int
    bytes: int


async def ended(database: Database, rest: float = REST_SECONDS, limit: int = 100) -> list[str]:
    """The runs that have ended and still have events as rows."""
    query = (
        select(run.c.id)
        .where(
            run.c.state.in_(OVER),
            run.c.finished < now() - rest,
            select(event.c.seq).where(event.c.run == run.c.id).exists(),
        )
        .order_by(run.c.finished)
        .limit(limit)
    )
    async with database.read() as connection:
        return list(await connection.scalars(query))


async def compact(database: Database, name: str, store: str) -> Packed | None:
    """Compact the events of a run; None where nothing is to do, or the run goes on.

    :param store: the address beside whose artifacts the object goes.
    :raises StoreError: the store or the database does not answer; the events are where they were.
    :raises DamagedObject: what the store gives back is not what it was given; the events are where they were.
    """
    async with database.read() as connection:
        row = (
            await connection.execute(select(run.c.last_seq, run.c.state).where(run.c.id == name))
        ).one_or_none()
        before = await compacted.known(connection, name)
    if row is None or row.state not in OVER or row.last_seq == (before.last if before else 0):
        return None
    with tempfile.NamedTemporaryFile() as file:
        blocks, producers = await _write(database, name, row.last_seq, file)
        size, key = file.tell(), f"{FOLDER}/{name}-{row.last_seq}.jsonl.gz"
        opened = await asyncio.to_thread(open_store, store)
        await asyncio.to_thread(_store, opened, key, Path(file.name))
    known = {
        "run": name, "store": store, "key": key, "bytes": size, "last_seq": row.last_seq,
        "blocks": blocks, "producers": producers,
    }  # fmt: skip
    async with database.write() as connection:
        state = await connection.scalar(select(run.c.state).where(run.c.id == name).with_for_update())
        if state not in OVER:  # it was resumed meanwhile
            return None
        changed = {column: known[column] for column in known if column != "run"}
        await upsert(
            connection,
            compaction,
            [{**known, "time": await connection.scalar(select(now()))}],
            lambda new: {column: new[column] for column in (*changed, "time")},
            where=lambda new: compaction.c.last_seq < new.last_seq,
        )
        await connection.execute(delete(event).where(event.c.run == name, event.c.seq <= row.last_seq))
    if before is not None:
        await remove(before)
    return Packed(row.last_seq, size)


async def remove(packed: compacted.Compacted) -> None:
    """Remove the object of a run's events.

    :raises StoreError: the store does not answer.
    """
    await asyncio.to_thread(lambda: open_store(packed.store).delete(packed.key))


async def _write(
    database: Database, name: str, last: int, file: IO[bytes]
) -> tuple[list[list[int]], dict[str, list[list[int]]]]:
    """Write the events into a file, block by block.

    :returns: the blocks, and the ranges of each producer's numbers.
    """
    blocks: list[list[int]] = []
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    done = 0
    while done < last:
        events = await page(database, name, done, min(compacted.BLOCK, last - done))
        if [one.seq for one in events[:1]] != [done + 1] or events[-1].seq != done + len(events):
            raise DamagedObject(
                "events of an ended run are missing", where=name, why=f"number {done + 1} is not there"
            )
        blocks.append([done + 1, file.tell()])
        file.write(await asyncio.to_thread(compacted.block, [_line(one) for one in events]))
        for one in events:
            numbers[one.producer].append(one.n)
        done = events[-1].seq
    file.flush()
    return blocks, {producer: _ranges(own) for producer, own in numbers.items()}


def _line(one: Event) -> str:
    head = {
        "seq": one.seq, "time": one.time, "channel": one.channel, "task": one.task, "attempt": one.attempt,
        "producer": one.producer, "n": one.n,
    }  # fmt: skip
    return compacted.line_of(head, one.text)


def _store(store: Store, key: str, file: Path) -> None:
    """Put the object into the store, and read it back."""
    with file.open("rb") as content:
        written = hashlib.file_digest(content, "sha256").hexdigest()
    store.put(key, file)
    if store.sha256(key) != written:
        raise DamagedObject(
            "the store gives back other events than it was given",
            where=store.address(key),
            fix="look at the store; the events stay in the database",
        )


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Numbers as ranges from first to last."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges
