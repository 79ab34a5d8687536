"""The three layers as one: memory, Redis, disk, and whoever computes what none of them has.

    cache.get_or_compute(Key(digest, "manifest"), compute)

A layer that has it fills those before it. Of many who ask for the same at once one looks, and all get what it finds.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..settings import ControlSettings
from .disk import Disk
from .key import Key
from .memory import Memory

if TYPE_CHECKING:
    from .remote import Remote

log = logging.getLogger("forge.control")


@dataclass
class Counts:
    """How often what was asked for was where."""

    memory: int = 0
    redis: int = 0
    disk: int = 0
    computed: int = 0
    joined: int = 0
    redis_errors: int = 0
    disk_errors: int = 0


@dataclass
class _Flight:
    task: asyncio.Task[bytes] | None = None
    stale: bool = False


@dataclass
class Cache:
    """All layers.

    :param remote: None where there is no Redis.
    """

    memory: Memory
    disk: Disk
    remote: Remote | None = None
    counts: Counts = field(default_factory=Counts)
    _flights: dict[Key, _Flight] = field(default_factory=dict)
    _storing: set[asyncio.Task[None]] = field(default_factory=set)

    async def get_or_compute(self, key: Key, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        """The value of a key, from the first layer that has it, else computed and kept in all.

        :raises Exception: what `compute` raises, for everybody who waits; nothing is kept then.
        """
        value = self.memory.get(key)
        if value is not None:
            self.counts.memory += 1
            return value
        flight = self._flights.get(key)
        if flight is None or flight.task is None:
            flight = self._flights[key] = _Flight()
            flight.task = asyncio.create_task(self._fly(key, flight, compute))
        else:
            self.counts.joined += 1
        return await asyncio.shield(flight.task)  # who goes away does not take it from the others

    async def json(self, key: Key, compute: Callable[[], Awaitable[Any]]) -> Any:
        """The same for plain JSON."""

        async def encoded() -> bytes:
            return json.dumps(await compute(), separators=(",", ":"), allow_nan=False).encode()

        return json.loads(await self.get_or_compute(key, encoded))

    async def forget(self, digest: str) -> None:
        """Drop every view of a digest, in all layers; what is being computed now is not kept."""
        for key, flight in list(self._flights.items()):
            if key.digest == digest:
                flight.stale = True
                del self._flights[key]
        await self.settled()
        self.memory.forget(digest)
        if self.remote is not None:
            await self.remote.forget(digest)
        await asyncio.to_thread(self.disk.forget, digest)

    async def settled(self) -> None:
        """Wait until what was computed is in the slower layers too."""
        await asyncio.gather(*self._storing)

    def statistics(self) -> dict[str, Any]:
        """Hits, entries and bytes, of this process."""
        self.counts.redis_errors = self.remote.errors if self.remote else 0
        return {
            **asdict(self.counts),
            "memory_entries": len(self.memory),
            "memory_bytes": self.memory.bytes,
            "memory_limit": self.memory.limit,
            "memory_evicted": self.memory.evicted,
            "disk_bytes": max(self.disk.bytes, 0),
            "disk_limit": self.disk.limit,
            "disk_evicted": self.disk.evicted,
            "redis_answers": self.remote is not None and not self.remote.paused,
        }

    async def close(self) -> None:
        """End what is being computed, and the connections."""
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.settled()
        if self.remote is not None:
            await self.remote.close()

    async def _fly(self, key: Key, flight: _Flight, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            return await self._find(key, flight, compute)
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]

    async def _find(self, key: Key, flight: _Flight, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        value = await self.remote.get(key) if self.remote is not None else None
        if value is not None:
            self.counts.redis += 1
            self._keep(key, flight, value)
            return value
        value = await asyncio.to_thread(self.disk.get, key)
        on_disk = value is not None
        if value is not None:
            self.counts.disk += 1
        else:
            value = await compute()
            self.counts.computed += 1
        self._keep(key, flight, value)
        if not flight.stale:
            storing = asyncio.create_task(self._store(key, value, to_disk=not on_disk))
            self._storing.add(storing)  # nobody waits for a disk
            storing.add_done_callback(self._storing.discard)
        return value

    def _keep(self, key: Key, flight: _Flight, value: bytes) -> None:
        if not flight.stale:
            self.memory.put(key, value)

    async def _store(self, key: Key, value: bytes, *, to_disk: bool) -> None:
        if self.remote is not None:
            await self.remote.put(key, value)
        if to_disk:
            try:
                await asyncio.to_thread(self.disk.put, key, value)
            except OSError as error:  # full, or not ours to write: it is a cache
                self.counts.disk_errors += 1
                log.warning("the cache on disk cannot be written: %s", error)


def cache_of(settings: ControlSettings) -> Cache:
    """The layers that a process with these settings has."""
    remote = None
    if settings.redis_url:
        from .remote import Remote  # whose client is a tenth of the time in which a process starts

        remote = Remote(settings.redis_url, settings.cache_seconds)
    disk = Disk(settings.folder / "cache", settings.cache_disk_bytes)
    return Cache(Memory(settings.cache_memory_bytes), disk, remote)
