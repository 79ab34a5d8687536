"""What a process of the control plane holds on to: its settings, the database, what wakes readers, and its services."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from .cache.disk import Disk
from .cache.layers import Cache
from .cache.memory import Memory
from .cache.remote import Remote
from .settings import ControlSettings
from .store import migrate
from .store.database import Database
from .turns import Turns

MODEL_WAITERS = 8
"""Requests that may wait for the one process of a model."""


@dataclass
class Control:
    """A process of it.

    :param name: of this process, in leases and in the log.
    :param log: the name of the database's log of events, which cursors carry.
    :param checked: the newest checklist of the machine; who makes another holds `checking`.
    :param turns: of the models that answer or are written for other programs.
    """

    settings: ControlSettings
    database: Database
    log: str
    cache: Cache
    turns: Turns = field(default_factory=lambda: Turns(MODEL_WAITERS))
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)
    checked: dict[str, Any] | None = None
    name: str = field(default_factory=lambda: f"{platform.node()}-{secrets.token_hex(4)}")


@contextlib.asynccontextmanager
async def opened(settings: ControlSettings) -> AsyncIterator[Control]:
    """A process of the control plane, its database brought up to date.

    :raises ForgeError: the database does not answer, or is of a newer version.
    """
    database = Database(settings.database)
    cache = cache_of(settings)
    try:
        log = await migrate.upgrade(database)
        yield Control(settings, database, log, cache)
    finally:
        await cache.close()
        await database.close()


def cache_of(settings: ControlSettings) -> Cache:
    """The layers of caches that a process with these settings has."""
    remote = Remote(settings.redis_url, settings.cache_seconds) if settings.redis_url else None
    disk = Disk(settings.folder / "cache", settings.cache_disk_bytes)
    return Cache(Memory(settings.cache_memory_bytes), disk, remote)
