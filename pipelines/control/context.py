"""What a process of the control plane holds on to: its settings, the database, what wakes readers, and its services."""

from __future__ import annotations

import contextlib
import platform
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from .bus.bus import Bus, bus_of
from .meters import Meters
from .settings import ControlSettings
from .store import migrate
from .store.database import Database


@dataclass(eq=False)
class Control:
    """A process of it.

    :param name: of this process, in leases and in the log.
    :param log: the name of the database's log of events, which cursors carry.
    :param bus: wakes readers of events, here and in other processes.
    :param meters: what it counts of itself.
    """

    settings: ControlSettings
    database: Database
    log: str
    bus: Bus
    meters: Meters = field(default_factory=Meters)
    name: str = field(default_factory=lambda: f"{platform.node()}-{secrets.token_hex(4)}")


@contextlib.asynccontextmanager
async def opened(settings: ControlSettings) -> AsyncIterator[Control]:
    """A process of the control plane, its database brought up to date.

    :raises ForgeError: the database does not answer, or is of a newer version.
    """
    database = Database(settings.database)
    bus = bus_of(settings)
    try:
        log = await migrate.upgrade(database)
        yield Control(settings, database, log, bus)
    finally:
        await bus.close()
        await database.close()
