"""Pages of older events, which do not change any more: read once for all who need them, and kept up to so many bytes."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from ..store.database import Database
from ..store.events import Event, page

BLOCK = 500
KEPT_BYTES = 16 << 20
AT_ONCE = 2
"""Blocks that are read at the same time: the rest of the database's connections is for others."""

Key = tuple[str, float, int]


class Blocks:
    """The pages.

    :param database: of the log.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[Key, tuple[Sequence[Event], int]] = OrderedDict()
        self._bytes = 0
        self._reading: dict[Key, asyncio.Task[Sequence[Event]]] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def after(self, run: str, born: float, cursor: int, last: int) -> Sequence[Event]:
        """The events behind a cursor that lie in its block; at least one.

        :param born: when the run was made, so that one of the same name is another.
        :param last: the run's last event.
        :raises StoreError: the database does not answer.
        """
        number = cursor // BLOCK
        if (number + 1) * BLOCK > last:  # it still grows
            return await page(self._database, run, cursor, BLOCK)
        key = (run, born, number)
        if key in self._kept:
            self._kept.move_to_end(key)
            events = self._kept[key][0]
        else:
            if key not in self._reading:
                self._reading[key] = asyncio.create_task(self._read(key))
                self._reading[key].add_done_callback(lambda _: self._reading.pop(key, None))
            events = await asyncio.shield(
                self._reading[key]
            )  # one who leaves does not take it from the others
        return events[cursor - number * BLOCK :]

    def clear(self) -> None:
        """Forget all: the log is another one."""
        self._kept.clear()
        self._bytes = 0

    async def _read(self, key: Key) -> Sequence[Event]:
        run, _, number = key
        async with self._gate:
            events = await page(self._database, run, number * BLOCK, BLOCK)
        if len(events) < BLOCK:  # the log has become another one meanwhile
            return events
        size = sum(len(event.wire) + len(event.text) for event in events)
        self._kept[key] = (events, size)
        self._bytes += size
        while self._bytes > KEPT_BYTES:
            self._bytes -= self._kept.popitem(last=False)[1][1]
        return events
