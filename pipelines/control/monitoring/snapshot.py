"""One look at everything: metrics and alerts both speak from it, so they cannot disagree."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from components.shared.runtime.errors import StoreError
from pipelines.analysis.performance import Pace

from ..cache.layers import Counts
from ..services.performance import paces
from . import history, live
from .gates import Gates
from .machine import Machine, Watch
from .reach import Reach

if TYPE_CHECKING:
    from ..context import Control

log = logging.getLogger("forge.control")

FRESH_SECONDS = 5.0
"""So old a look may be: several who ask at once cost one."""


@dataclass(frozen=True)
class Snapshot:
    """How everything is.

    :param up: of what we stand on, whether it answers: database, store, redis, mlflow.
    :param past: of each phase; empty where the database does not answer, as is `running`.
    :param paces: how long each phase takes, profile by profile, and took at first.
    :param cache: how often what was asked for was where.
    :param gates: of published results, how many, by phase and result.
    """

    machine: Machine
    up: Mapping[str, bool]
    past: Mapping[str, history.PhaseHistory] = field(default_factory=dict)
    running: live.Running | None = None
    paces: Sequence[Pace] = ()
    cache: Counts = field(default_factory=Counts)
    gates: Mapping[tuple[str, str], float] = field(default_factory=dict)


class Watcher:
    """Takes the looks of a process, one at a time."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._watch = Watch(control.settings.runs)
        self._reach = Reach(control.settings, control.meters)
        self._history = history.History()
        self._gates = Gates()
        self._looking = asyncio.Lock()
        self._taken = -FRESH_SECONDS
        self._last: Snapshot | None = None

    async def look(self) -> Snapshot:
        """How everything is now, or was a few seconds ago."""
        async with self._looking:
            if self._last is None or time.monotonic() - self._taken >= FRESH_SECONDS:
                self._last = await self._look()
                self._taken = time.monotonic()
            return self._last

    async def _look(self) -> Snapshot:
        machine = await asyncio.to_thread(self._watch.look)
        up = await self._reach.look()
        cache = replace(self._control.cache.counts)
        try:
            async with self._control.database.read() as connection:
                past = await self._history.read(connection)
                running = await live.read(connection)
                measured = await paces(connection)
                judged = await self._gates.read(connection)
        except StoreError as error:
            log.warning("%s", error)
            return Snapshot(machine, {"database": False, **up}, cache=cache)
        return Snapshot(machine, {"database": True, **up}, past, running, measured, cache, judged)


_WATCHERS: WeakKeyDictionary[Control, Watcher] = WeakKeyDictionary()


def watcher(control: Control) -> Watcher:
    """The one of a process."""
    if control not in _WATCHERS:
        _WATCHERS[control] = Watcher(control)
    return _WATCHERS[control]
