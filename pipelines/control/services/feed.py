"""One run's events for all who watch it in this process: a ring of the newest, blocks of older ones, and no queue.

A reader is a cursor. It asks for what follows; where the ring has moved on it gets blocks from the database, which readers
at the same place share. So one that is slow, or away for an hour, costs nobody anything but its own way back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select

from components.shared.runtime.errors import StoreError

from ..store.database import Database
from ..store.events import Event, page
from ..store.tables import run as runs
from .blocks import Blocks

log = logging.getLogger("forge.control")

RING_EVENTS = 500
RING_BYTES = 512 << 10
FRAME_BYTES = 64 << 10
"""A batch is no larger, but for one event that is: what lies before a reader that does not read is bounded."""

FRAMES = 32
"""Batches of the ring that are kept ready, for all who are at the same place."""

AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Batch:
    """What follows a cursor.

    :param text: events as the elements of a JSON array; empty where none of the wanted channels follow.
    :param events: the same, one by one.
    :param last: the cursor behind it.
    """

    text: str
    events: Sequence[Event]
    last: int


class Gone(Exception):
    """The run is not there any more, or is another: a cursor in it means nothing."""


class Feed:
    """A run, watched.

    :param database: of its log.
    :param blocks: the pages of older events, shared by all feeds of the process.
    """

    def __init__(self, run: str, database: Database, blocks: Blocks) -> None:
        self.run = run
        self.last = 0
        self.state = ""
        self.gone = False
        self.readers: set[asyncio.Event] = set()
        self.idle_since = 0.0
        self.nudge = asyncio.Event()
        self._database = database
        self._blocks = blocks
        self._born: float | None = None
        self._ring: deque[Event] = deque()
        self._bytes = 0
        self._frames: dict[tuple[int, frozenset[str] | None], Batch] = {}
        self._looking = asyncio.Lock()

    @contextlib.contextmanager
    def reading(self, wake: asyncio.Event) -> Iterator[None]:
        """Be woken when something follows, or the run is gone."""
        self.readers.add(wake)
        try:
            yield
        finally:
            self.readers.discard(wake)

    async def following(self) -> None:
        """Keep the ring at the end of the log, until the run is gone."""
        while not self.gone:
            await self.nudge.wait()
            self.nudge.clear()
            try:
                await self.look()
            except Gone:
                return
            except Exception as error:  # readers keep what they have; the database is asked again
                if not isinstance(error, StoreError):
                    log.exception("a feed could not be read, and is tried again")
                await asyncio.sleep(AGAIN_SECONDS)
                self.nudge.set()

    async def look(self) -> None:
        """Read what is new.

        :raises Gone: the run has been removed, or its log is shorter than it was.
        :raises StoreError: the database does not answer.
        """
        async with self._looking:
            async with self._database.read() as connection:
                row = (
                    await connection.execute(
                        select(runs.c.last_seq, runs.c.state, runs.c.created).where(runs.c.id == self.run)
                    )
                ).one_or_none()
            if self.gone or row is None or row.last_seq < self.last or self._born not in (None, row.created):
                self.end()
                raise Gone(self.run)
            if self._born is None:
                self._born = row.created
                self.last = max(row.last_seq - RING_EVENTS, 0)
            changed = row.state != self.state
            self.state = row.state
            while self.last < row.last_seq:
                new = await page(self._database, self.run, self.last, RING_EVENTS)
                if not new or new[0].seq != self.last + 1:  # restored between the two statements
                    self.end()
                    raise Gone(self.run)
                self._add(new)
                changed = True
            if changed:
                self._tell()

    def end(self) -> None:
        """The run is gone: whoever reads is told, and the ring is dropped."""
        self.gone = True
        self._ring.clear()
        self._frames.clear()
        self._tell()

    async def after(self, cursor: int, channels: frozenset[str] | None = None) -> Batch | None:
        """What follows a cursor; None where nothing does yet.

        :param channels: only of these; None for all. A batch without events moves the cursor past others.
        :raises Gone: nothing ever will: the cursor belongs to something else.
        :raises StoreError: older events have to be read, and the database does not answer.
        """
        if cursor > self.last:  # another replica was ahead of this one; or the log has become shorter
            await self.look()
            if cursor > self.last:
                raise Gone(self.run)
        if self.gone:
            raise Gone(self.run)
        if cursor == self.last:
            return None
        if self._ring and cursor >= self._ring[0].seq - 1:
            place = (cursor, channels)
            if (ready := self._frames.get(place)) is None:
                start = cursor - self._ring[0].seq + 1
                ready = _batch(list(islice(self._ring, start, None)), channels)
                if len(self._frames) < FRAMES:
                    self._frames[place] = ready
            return ready
        events = await self._blocks.after(self.run, self._born or 0.0, cursor, self.last)
        if not events or events[0].seq != cursor + 1:
            raise Gone(self.run)
        return _batch(events, channels)

    def _add(self, new: Sequence[Event]) -> None:
        for event in new:
            self._ring.append(event)
            self._bytes += len(event.wire)
        while self._ring and (len(self._ring) > RING_EVENTS or self._bytes > RING_BYTES):
            self._bytes -= len(self._ring.popleft().wire)
        self.last = new[-1].seq
        self._frames.clear()

    def _tell(self) -> None:
        for wake in self.readers:
            wake.set()


def _batch(events: Sequence[Event], channels: frozenset[str] | None) -> Batch:
    """As many of consecutive events as a batch takes. Empty of events only where none of them is wanted."""
    taken: list[Event] = []
    size = 0
    last = 0
    for event in events:
        if channels is None or event.channel in channels:
            size += len(event.wire)
            if taken and size > FRAME_BYTES:
                break
            taken.append(event)
        last = event.seq
    return Batch(",".join(event.wire for event in taken), taken, last)
