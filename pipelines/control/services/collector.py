"""Reads what runs write into their folders, and finds runs that the command line has begun.

A folder's log is numbered; the database knows the last number that it has. So reading begins anywhere, by anyone, and what
is read twice counts once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from components.shared.runtime.errors import ConfigError, ForgeError, InputError

from ...runs.events import Event as FolderEvent
from ...runs.folder import RunFolder, checked_name
from ...runs.log import EventReader
from ...runs.state import told_by_folder
from ..context import Control
from ..store.events import CHANNEL_OF, NewEvent
from ..store.tables import compaction, event
from .projection import record

log = logging.getLogger("forge.control")

FOLDER = "folder"
"""The producer of a folder's events. A run that began anew elsewhere has another log: `folder/<epoch>`."""

WITHOUT_LOG = "folder/status"
"""The producer of what a folder says that has no log: when the run goes on, its log begins with number 1."""

BATCH = 500


class FolderFollower:
    """Follows the log of one run.

    :param producer: under whose name its events are written down.
    """

    def __init__(self, control: Control, run_id: str, folder: RunFolder, producer: str = FOLDER) -> None:
        self.control = control
        self.run_id = run_id
        self.folder = folder
        self.producer = producer
        self._reader: EventReader | None = None
        self._size = -1

    async def collect(self, epoch: int) -> int:
        """Write down what is new; how many events that were.

        :param epoch: of our lease.
        :raises LeaseLost: the run has another holder.
        :raises StoreError: the database does not answer: the next call reads the same again.
        """
        size = await asyncio.to_thread(_size, self.folder.events)
        if size == self._size:
            return 0
        count = 0
        try:
            if self._reader is None:
                self._reader = EventReader(self.folder.events, await self.last())
            while events := await asyncio.to_thread(self._reader.read, BATCH):
                new = [_new(one, self.producer) for one in events]
                count += await self._recorded(new, epoch)
                if len(events) < BATCH:
                    break
        except InputError:  # another log than before; what is known of it is passed over
            self._reader = None
            return count
        except BaseException:
            self._reader = None
            raise
        self._size = size
        return count

    async def _recorded(self, new: Sequence[NewEvent], epoch: int) -> int:
        """Write events down; one that no database keeps is passed over, and holds up no other."""
        try:
            return len(await record(self.control, self.run_id, new, epoch=epoch))
        except ForgeError:
            raise
        except Exception:
            if len(new) == 1:
                log.exception("event %d of run %s is passed over", new[0].n, self.run_id)
                return 0
            middle = len(new) // 2
            return await self._recorded(new[:middle], epoch) + await self._recorded(new[middle:], epoch)

    async def collect_without_log(self, epoch: int) -> int:
        """The same for a run that was made before runs had logs: what its folder says."""
        events = await asyncio.to_thread(lambda: list(told_by_folder(self.folder)))
        new = [_new(one, WITHOUT_LOG) for one in events]
        return len(await record(self.control, self.run_id, new, epoch=epoch))

    async def last(self) -> int:
        """The last number of the folder's that the database has."""
        mine = (event.c.run == self.run_id, event.c.producer == self.producer)
        async with self.control.database.read() as connection:
            rows = await connection.scalar(select(func.max(event.c.n)).where(*mine))
            packed = await connection.scalar(
                select(compaction.c.producers).where(compaction.c.run == self.run_id)
            )
        ranges = (packed or {}).get(self.producer) or []
        return max([int(rows or 0), *(int(last) for _, last in ranges)])


@dataclass(frozen=True)
class FoundFolder:
    """A run's folder, as a scan sees it.

    :param written: when its log was written last.
    """

    folder: RunFolder
    written: float


def scan(runs: Path) -> Sequence[FoundFolder]:
    """The folders of runs below `runs`; what is no folder of its own, or has no run's name, is passed over."""
    found = []
    try:
        entries = list(os.scandir(runs))
    except FileNotFoundError:
        return []
    for entry in entries:
        try:
            checked_name(entry.name)
            if entry.is_symlink() or not os.path.isfile(os.path.join(entry.path, "run.json")):
                continue
        except (ConfigError, OSError):
            continue
        folder = RunFolder(Path(entry.path).absolute())
        found.append(FoundFolder(folder, _written(folder)))
    return found


def _written(folder: RunFolder) -> float:
    for path in (folder.events, folder.path / "run.json"):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -2  # there is none yet: not what it was at the last look, and not what it will be


def _new(one: FolderEvent, producer: str) -> NewEvent:
    content = one.model_dump(mode="json")
    data = {"kind": content["kind"], **content["data"]}
    return NewEvent(CHANNEL_OF[content["kind"]], one.task, one.attempt, producer, one.id, one.time, data)
