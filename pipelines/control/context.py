"""What a process of the control plane holds on to: its settings, the database, what wakes readers, and its services."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from .bus.bus import Bus, bus_of
from .cache.layers import Cache, cache_of
from .meters import Meters
from .settings import ControlSettings
from .store import migrate
from .store.database import Database
from .turns import Turns

MODEL_WAITERS = 8
"""Requests that may wait for the one process of a model."""


@dataclass(eq=False)
class Control:
    """A process of it.

    :param name: of this process, in leases and in the log.
    :param log: the name of the database's log of events, which cursors carry.
    :param bus: wakes readers of events, here and in other processes.
    :param cache: keeps what costs much to read.
    :param meters: what it counts of itself.
    :param turns: of the models that answer or are written for other programs.
    :param checked: the newest checklist of the machine; who makes another holds `checking`.
    """

    settings: ControlSettings
    database: Database
    log: str
    bus: Bus
    cache: Cache
    meters: Meters = field(default_factory=Meters)
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
    bus = bus_of(settings)
    cache = cache_of(settings)
    try:
        log = await migrate.upgrade(database)
        yield Control(settings, database, log, bus, cache)
    finally:
        await cache.close()
        await bus.close()
        await database.close()
