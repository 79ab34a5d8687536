"""A bus within one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Pending:
    """The hints that one reader has not taken yet: each run once."""

    def __init__(self) -> None:
        self._runs: dict[str, None] = {}
        self._news = asyncio.Event()

    def add(self, run: str) -> None:
        """One more."""
        self._runs[run] = None
        self._news.set()

    async def take(self) -> list[str]:
        """All that wait, as soon as there is one."""
        await self._news.wait()
        self._news.clear()
        runs = list(self._runs)
        self._runs.clear()
        return runs


class MemoryBus:
    """Hints within this process."""

    def __init__(self) -> None:
        self._readers: set[Pending] = set()

    async def wake(self, run: str) -> None:
        """Say that a run has new events."""
        for reader in self._readers:
            reader.add(run)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncIterator[str]]:
        """The runs that are woken from now on."""
        pending = Pending()
        self._readers.add(pending)
        try:
            yield _each(pending)
        finally:
            self._readers.discard(pending)

    async def close(self) -> None:
        """Nothing to let go of."""


async def _each(pending: Pending) -> AsyncIterator[str]:
    while True:
        for run in await pending.take():
            yield run
