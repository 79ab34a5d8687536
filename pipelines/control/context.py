"""What a process of the control plane holds on to: its settings, the database, what wakes readers, and its services."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .auth.oidc import Provider
from .auth.principals import first_start
from .auth.rate import Limiter
from .auth.watch import Watch
from .bus.bus import Bus, bus_of
from .cache.layers import Cache, cache_of
from .meters import Meters
from .settings import ControlSettings, own_folder
from .store import migrate
from .store.database import Database
from .store.log_index import ReadLogs
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
    :param limiter: counts requests.
    :param watch: ends what stays open once its credential is worth nothing.
    :param provider: the identity provider whose tokens are taken too.
    :param admin_key: the file of the first admin's key, where this was the first start.
    :param turns: of the models that answer or are written for other programs.
    :param logs: what is kept of the logs that were read last.
    :param checked: the newest checklist of the machine; who makes another holds `checking`.
    """

    settings: ControlSettings
    database: Database
    log: str
    bus: Bus
    cache: Cache
    limiter: Limiter
    watch: Watch
    provider: Provider | None = None
    admin_key: Path | None = None
    meters: Meters = field(default_factory=Meters)
    turns: Turns = field(default_factory=lambda: Turns(MODEL_WAITERS))
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)
    checked: dict[str, Any] | None = None
    logs: ReadLogs = field(default_factory=ReadLogs)
    name: str = field(default_factory=lambda: f"{platform.node()[:40]}-{os.getpid()}-{secrets.token_hex(2)}")


@contextlib.asynccontextmanager
async def opened(settings: ControlSettings) -> AsyncIterator[Control]:
    """A process of the control plane, its database brought up to date.

    :raises ForgeError: the database does not answer, or is of a newer version.
    """
    own_folder(settings)
    database = Database(settings.database)
    bus = bus_of(settings)
    cache = cache_of(settings)
    try:
        log = await migrate.upgrade(database)
        control = Control(
            settings,
            database,
            log,
            bus,
            cache,
            limiter=Limiter(settings.redis_url),
            watch=Watch(database),
            provider=Provider(settings) if settings.oidc_issuer else None,
            admin_key=await first_start(settings, database),
        )
        database.failed = control.meters.store_errors.labels("database").inc
        watching = asyncio.create_task(control.watch.serve())
        try:
            yield control
        finally:
            watching.cancel()
    finally:
        await cache.close()
        await bus.close()
        await database.close()
