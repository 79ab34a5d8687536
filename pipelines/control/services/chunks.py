"""Reads the chunks that pods leave in the store of their run, in order, each once.

Whoever collects keeps in mind up to which chunk it has come; one that begins anew reads all of them, and the log of events
knows what it has (producer, n). A chunk that is missing between others is waited for, then said to be missing, and still
read if it comes later; one that is damaged is said to be so. Neither holds up what comes after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from components.shared.runtime.errors import InputError, MissingKey, StoreError
from components.shared.runtime.store.interface import Store
from components.shared.runtime.store.uri import open_store
from components.shared.runtime.tracking import chunks
from components.shared.runtime.tracking.chunks import DamagedChunk

from ..context import Control
from ..store.events import NewEvent
from . import pod_events
from .projection import record

LIST_SECONDS = 60.0
"""So often all names are listed; between that only the next chunk of each process is asked for."""

WAIT_SECONDS = 30.0
"""So long a chunk that is missing is waited for."""

TOGETHER = 500
"""About so many lines are written down in one transaction."""

Process = tuple[str, str]
"""A task, and the name of one process of it."""


@dataclass
class Position:
    """How far one process has been read.

    :param next: the number of the next chunk.
    :param waiting: since when it is missing though later ones are there; None while it is not.
    :param missing: numbers that were passed over.
    """

    next: int = 1
    waiting: float | None = None
    missing: set[int] = field(default_factory=set)


@dataclass
class Batch:
    """What was read of one process.

    :param lines: of its chunks, one behind the other.
    :param troubles: number and reason of chunks that say nothing.
    """

    process: Process
    lines: list[dict[str, object]] = field(default_factory=list)
    troubles: list[tuple[int, str, str]] = field(default_factory=list)


class ChunkReader:
    """The chunks of one run.

    :param root: of the run, in its store.
    """

    def __init__(self, root: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.root = root.rstrip("/")
        self.positions: dict[Process, Position] = {}
        self._clock = clock
        self._listed = float("-inf")
        self._store: Store | None = None

    async def collect(
        self,
        control: Control,
        run: str,
        *,
        epoch: int | None = None,
        living: Mapping[str, str] | None = None,
        everything: bool = False,
    ) -> int:
        """Write down what is new.

        :param epoch: of the lease under which it is done.
        :param living: the process that tells of each task now, as far as that is known.
        :param everything: the run has ended: all names are listed now, and what is missing is not waited for.
        :returns: the number of events that are new.
        :raises LeaseLost: the run has another holder by now.
        :raises StoreError: the store, or the database, does not answer.
        """
        for process in (living or {}).items():
            self._know(process)
        found = await asyncio.to_thread(self._list, everything)
        count = 0
        for process in list(self.positions):
            before = self.positions[process]
            while True:
                position = Position(before.next, before.waiting, set(before.missing))
                batch = await asyncio.to_thread(
                    self._read, process, position, found, 0.0 if everything else WAIT_SECONDS
                )
                events = await _events(control, run, batch)
                if events:
                    count += len(await record(control, run, events, epoch=epoch))
                self.positions[process] = position  # only now: what could not be written down is read again
                if position.next == before.next and position.missing == before.missing:
                    break
                before = position
        return count

    def _know(self, process: Process) -> None:
        try:
            pod_events.check(*process)
        except InputError:
            return  # somebody else's folder, or a name that no process of ours has
        self.positions.setdefault(process, Position())

    def _list(self, everything: bool) -> Mapping[Process, set[int]] | None:
        """The numbers that are there, by process; None where it is too soon to list again."""
        now = self._clock()
        waits = any(position.waiting is not None for position in self.positions.values())
        if not (everything or waits or now - self._listed >= LIST_SECONDS):
            return None
        found: dict[Process, set[int]] = {}
        for entry in self._opened().list(f"{chunks.FOLDER}/"):
            if parts := chunks.parts(entry.key.removeprefix(f"{chunks.FOLDER}/")):
                found.setdefault((parts[0], parts[1]), set()).add(parts[2])
        self._listed = now
        for process in found:
            self._know(process)
        return found

    def _read(
        self, process: Process, position: Position, found: Mapping[Process, set[int]] | None, wait: float
    ) -> Batch:
        """The next lines of a process; `position` is behind them then."""
        batch = Batch(process)
        there = found.get(process, set()) if found is not None else None
        for number in sorted(position.missing & (there or set())):
            position.missing.discard(number)
            self._take(batch, number)
        while len(batch.lines) < TOGETHER:
            if there is not None and position.next not in there and not any(n > position.next for n in there):
                position.waiting = None
                break
            if self._take(batch, position.next):
                position.next, position.waiting = position.next + 1, None
            elif there is None or not self._pass_over(batch, position, there, wait):
                break
        return batch

    def _pass_over(self, batch: Batch, position: Position, there: set[int], wait: float) -> bool:
        """Whether a missing chunk was waited for long enough; then those up to the next one are said to be missing."""
        later = [number for number in there if number > position.next]
        if not later:
            return False
        now = self._clock()
        position.waiting = now if position.waiting is None else position.waiting
        if now - position.waiting < wait:
            return False
        for number in range(position.next, min(later)):
            batch.troubles.append((number, "is missing", "later ones are there"))
            position.missing.add(number)
        position.next, position.waiting = min(later), None
        return True

    def _take(self, batch: Batch, number: int) -> bool:
        """Take the lines of a chunk. False where there is none of this number."""
        key = chunks.key(*batch.process, number)
        try:
            batch.lines += chunks.decode(self._opened().get(f"{chunks.FOLDER}/{key}"))
        except MissingKey:
            return False
        except DamagedChunk as error:
            batch.troubles.append((number, "is damaged", str(error)))
        except StoreError as error:
            if error.transient or not self._answers():
                raise
            batch.troubles.append((number, "cannot be read", error.why or error.what))
        return True

    def _answers(self) -> bool:
        """Whether the store works, so that it is one object of it that does not."""
        try:
            self._opened().exists(f"{chunks.FOLDER}/none")
        except StoreError:
            return False
        return True

    def _opened(self) -> Store:
        if self._store is None:
            self._store = open_store(self.root)
        return self._store


async def _events(control: Control, run: str, batch: Batch) -> list[NewEvent]:
    if not batch.lines and not batch.troubles:
        return []
    task, process = batch.process
    known = await pod_events.known_of(control, run, task)
    events: list[NewEvent] = []
    for line, said in pod_events.each(task, process, batch.lines, known):
        if isinstance(said, InputError):
            n = int(str(line["n"]))
            events.append(_trouble(batch.process, "lines", n, said.what, said.why, said.fix))
        else:
            events += said
    for number, how, why in batch.troubles:
        what = f"chunk {number} of what {task} has told {how}"
        fix = "the pod's own log (executor-logs) has its lines, as long as KFP keeps it"
        events.append(_trouble(batch.process, "chunks", number, what, why, fix))
    return events


def _trouble(process: Process, of: str, n: int, what: str, why: str, fix: str) -> NewEvent:
    task, name = process
    where = f"{chunks.FOLDER}/{task}/{name}"
    data = {"kind": "error", "what": what, "where": where, "why": why, "fix": fix, "exit_code": None}
    return NewEvent("errors", task, 0, f"{of}/{task}/{name}"[:200], n, time.time(), data)
