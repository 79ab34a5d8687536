"""The log of events: one dense count a run, given under the run's row lock, in the transaction that inserts.

A reader with a cursor misses nothing and sees nothing twice: whatever has a number up to `last_seq` is committed, which a
serial over all runs cannot promise where commits overlap. What arrives again, or by two ways, has a (producer, n) that
is known, and counts once.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from json.encoder import encode_basestring as _quoted
from typing import Any, Literal

from sqlalchemy import Text, and_, cast, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.errors import LostRace, MissingKey

from ..errors import not_found
from . import compacted
from .database import Database
from .plain_json import bounded
from .tables import compaction, event, run

Channel = Literal["phase_progress", "metrics", "logs", "errors", "global"]
CHANNELS: tuple[Channel, ...] = ("phase_progress", "metrics", "logs", "errors", "global")
CHANNEL_OF: dict[str, Channel] = {
    "run": "global",
    "task": "phase_progress",
    "progress": "phase_progress",
    "metric": "metrics",
    "log": "logs",
    "error": "errors",
}
"""The channel of each kind of `pipelines/runs/events.py`."""

PAGE = 1000
NUMBERS_AT_ONCE = 500
"""So many numbers are looked up in one statement: databases have a limit."""


class LeaseLost(LostRace):
    """Somebody else is at the run: what is written under its old epoch is refused."""


@dataclass(frozen=True)
class NewEvent:
    """Something that has happened in a run, before it has its place.

    :param producer: who says it, such as `folder`, `pod/<task>/<attempt>`, `kfp`, `control`.
    :param n: its number with that producer, which it keeps when it is sent again.
    :param time: Unix seconds at which it happened.
    :param data: `{"kind": …}` and what that kind has.
    """

    channel: str
    task: str
    attempt: int
    producer: str
    n: int
    time: float
    data: dict[str, Any]


@dataclass(frozen=True)
class Event:
    """An event at its place.

    :param seq: 1, 2, 3 … in its run.
    :param text: its data, as JSON: read and passed on without being parsed.
    """

    run: str
    seq: int
    time: float
    channel: str
    task: str
    attempt: int
    producer: str
    n: int
    text: str

    @cached_property
    def data(self) -> dict[str, Any]:
        """What it says."""
        parsed: dict[str, Any] = json.loads(self.text)
        return parsed

    @cached_property
    def wire(self) -> str:
        """The JSON that every reader gets: `{run, seq, time, channel, task, attempt, data}`."""
        return (
            f'{{"run":{_quoted(self.run)},"seq":{self.seq},"time":{self.time!r},"channel":{_quoted(self.channel)},'
            f'"task":{_quoted(self.task)},"attempt":{self.attempt},"data":{self.text}}}'
        )


async def append(
    connection: AsyncConnection, name: str, events: Sequence[NewEvent], *, epoch: int | None = None
) -> list[Event]:
    """Give events their places, in the caller's transaction. What is known already is passed over.

    :param name: of the run, which is locked until the transaction ends.
    :param epoch: of the caller's lease; None for those who need none.
    :returns: those that are new, as they are in the log.
    :raises Refused: there is no such run (404).
    :raises LeaseLost: the run has another epoch by now.
    """
    row = (
        await connection.execute(
            select(run.c.last_seq, run.c.epoch, compaction.c.producers)
            .select_from(run.outerjoin(compaction, compaction.c.run == run.c.id))
            .where(run.c.id == name)
            .with_for_update(of=run)
        )
    ).one_or_none()
    if row is None:
        raise not_found("there is no such run", name)
    if epoch is not None and row.epoch != epoch:
        raise LeaseLost(
            "somebody else is at this run",
            where=name,
            why=f"its epoch is {row.epoch}, and ours was {epoch}",
        )
    seen = await _known(connection, name, events, row.producers or {})
    fresh: list[Event] = []
    seq = row.last_seq
    for new in events:
        if (new.producer, new.n) in seen:
            continue
        seen.add((new.producer, new.n))
        seq += 1
        fresh.append(
            Event(
                name,
                seq,
                new.time if math.isfinite(new.time) else 0.0,
                new.channel,
                new.task,
                new.attempt,
                new.producer,
                new.n,
                bounded(new.data),
            )
        )
    if fresh:
        await connection.execute(
            insert(event),
            [
                {
                    "run": name,
                    "seq": one.seq,
                    "time": one.time,
                    "channel": one.channel,
                    "task": one.task,
                    "attempt": one.attempt,
                    "producer": one.producer,
                    "n": one.n,
                    "data": one.data,
                }
                for one in fresh
            ],
        )
        await connection.execute(update(run).where(run.c.id == name).values(last_seq=seq))
    return fresh


async def page(
    database: Database,
    name: str,
    after: int,
    limit: int = PAGE,
    channels: Collection[str] | None = None,
) -> list[Event]:
    """The next events of a run, from the database or from the object that they have become.

    :param name: of the run.
    :param after: the number of the last one that is known already; 0 for all.
    :param channels: only of these; None for all.
    :raises StoreError: the database, or the store of the object, does not answer.
    """
    replaced = ""
    while True:
        async with database.read() as connection:
            # Rows first: if a compaction comes between the two, the object has what the rows had.
            rows = await rows_after(connection, name, after, limit, channels)
            if rows and rows[0].seq == after + 1:
                return rows
            packed = await compacted.known(connection, name)
        if packed is None or packed.last <= after:
            return rows
        try:
            lines = await compacted.read(packed, after, limit, channels)
        except MissingKey:
            if packed.key == replaced:
                raise
            replaced = packed.key  # by a longer one, just now
            continue
        old = [Event(run=name, **line) for line in lines]
        return old + [row for row in rows if row.seq > packed.last][: limit - len(old)]


async def rows_after(
    connection: AsyncConnection,
    name: str,
    after: int,
    limit: int = PAGE,
    channels: Collection[str] | None = None,
) -> list[Event]:
    """The next events of a run that are rows."""
    query = (
        select(
            event.c.seq,
            event.c.time,
            event.c.channel,
            event.c.task,
            event.c.attempt,
            event.c.producer,
            event.c.n,
            cast(event.c.data, Text),
        )
        .where(event.c.run == name, event.c.seq > after)
        .order_by(event.c.seq)
        .limit(limit)
    )
    if channels is not None:
        query = query.where(event.c.channel.in_(sorted(channels)))
    return [Event(name, *row) for row in await connection.execute(query)]


async def _known(
    connection: AsyncConnection, name: str, events: Sequence[NewEvent], old: dict[str, list[list[int]]]
) -> set[tuple[str, int]]:
    """Those of the events' numbers that the log has already.

    :param old: the ranges of numbers of events that are no longer rows.
    """
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for new in events:
        numbers[new.producer].append(new.n)
    wanted = [(producer, n) for producer, own in numbers.items() for n in own]
    known = {(producer, n) for producer, n in wanted if any(a <= n <= b for a, b in old.get(producer, ()))}
    for start in range(0, len(wanted), NUMBERS_AT_ONCE):
        part: defaultdict[str, list[int]] = defaultdict(list)
        for producer, n in wanted[start : start + NUMBERS_AT_ONCE]:
            part[producer].append(n)
        rows = await connection.execute(
            select(event.c.producer, event.c.n).where(
                event.c.run == name,
                or_(
                    *(
                        and_(event.c.producer == producer, event.c.n.in_(own))
                        for producer, own in part.items()
                    )
                ),
            )
        )
        known |= {(row.producer, row.n) for row in rows}
    return known
