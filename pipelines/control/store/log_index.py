"""What a process keeps of the logs that were read last: where events' lines begin, copies of logs from elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

Key = tuple[str, str, int]
"""A run, a task, an attempt."""

INDEXES = 64
COPIES, COPY_SECONDS = 8, 15.0
"""A log that comes whole, and is read page by page, is kept so long."""


@dataclass
class Index:
    """Where the lines of each event of a log begin.

    :param seqs: of its events.
    :param starts: the number of the line before the first of each.
    :param lines: in all.
    :param last: the number of the last event of the run that was looked at.
    """

    seqs: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    lines: int = 0
    last: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class ReadLogs:
    """The logs that were read last; what was not asked for the longest goes."""

    def __init__(self) -> None:
        self._indexes: OrderedDict[Key, Index] = OrderedDict()
        self._copies: OrderedDict[Key, tuple[float, str, list[str]]] = OrderedDict()

    def index(self, key: Key) -> Index:
        """The index of a log; a new one where there is none."""
        index = self._indexes.setdefault(key, Index())
        self._indexes.move_to_end(key)
        while len(self._indexes) > INDEXES:
            self._indexes.popitem(last=False)
        return index

    def copy(self, key: Key) -> tuple[str, list[str]] | None:
        """From where a log came lately, and its lines."""
        made, source, lines = self._copies.get(key, (float("-inf"), "", []))
        return (source, lines) if time.monotonic() - made < COPY_SECONDS else None

    def keep(self, key: Key, source: str, lines: list[str]) -> None:
        """Keep a copy for a while."""
        self._copies[key] = (time.monotonic(), source, lines)
        self._copies.move_to_end(key)
        while len(self._copies) > COPIES:
            self._copies.popitem(last=False)
