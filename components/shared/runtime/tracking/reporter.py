"""What a phase in a pod tells the world: its progress, what it measures, its log, its errors, and how it ends.

Everything goes as numbered chunks (chunks.py) into the store of its run, which it writes anyway, every five seconds or
256 KiB; and, where FORGE_API_URL and FORGE_RUN_TOKEN are set, to the API as well. Who follows the run counts what comes by
both ways once. Telling never fails a phase, never holds it up, and takes five seconds of its end at most.

==================  =======================================================================================
FORGE_TASK          the task; without it, the phase's name
FORGE_RUN_ROOT      the root of the run in a store, where KFP's launcher does not say it
FORGE_API_URL       the API, as a pod reaches it; without it, or without a token, only the store is told
FORGE_RUN_TOKEN     for this run's events and nothing else: from a Secret, never a parameter
KFP_POD_NAME, _UID  the pod, as KFP's launcher says it
==================  =======================================================================================

Where none of these leads anywhere, as on a laptop, nothing is watched and no thread is started.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from ..errors import ForgeError, Interrupted
from . import tee
from .chunks import Chunk
from .outlets import CHUNK_BYTES, EVERY, WAITING, ApiPlace, Outlet, StorePlace
from .progress_object import ProgressObject
from .spool import Spool

PATIENCE = 5.0
"""Seconds that telling may take of a phase's beginning, and of its end."""

TICK = 0.05


class Reporter:
    """Use as a context manager around the whole of a process' work.

    :param phase: its name.
    :param say: one line for the person who reads the pod's own log, about the telling itself.
    :param every: seconds between two chunks at most.
    """

    def __init__(self, phase: str, say: Callable[[str], None], *, every: float = EVERY) -> None:
        self.phase = phase
        self.say = say
        self.every = every
        self.task = os.environ.get("FORGE_TASK", phase)
        pod = os.environ.get("KFP_POD_UID", "")
        self.process = f"{pod}-{secrets.token_hex(3)}" if pod else secrets.token_hex(6)
        self.step = ""
        self.newest = ProgressObject(self.task, self.process)
        self.spool = Spool()
        self.outlets: list[Outlet] = []
        self.began = time.time(), time.monotonic()
        self._items = self._chunks = 0
        self._hurried, self._made = False, float("-inf")
        self._lock = threading.Lock()
        self._watching = contextlib.ExitStack()

    def __enter__(self) -> Reporter:
        """Nothing is told before `open` knows where."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.close()
        until = time.monotonic() + PATIENCE
        for outlet in self.outlets:
            outlet.close()
        for place, outlet in enumerate(self.outlets):
            # The first is waited for; the API beside a store only for what the store has not taken.
            while (left := until - time.monotonic()) > 0 and outlet.thread.is_alive():
                if place > 0 and not self._untold():
                    break
                outlet.thread.join(min(left, TICK))

    @property
    def attempt(self) -> int:
        """Of the task, those in pods that are gone included."""
        return self.newest.attempt

    def open(self, root: str, run: str, step: str = "") -> None:
        """Begin to tell.

        :param root: the root of the run in its store, "" where there is none.
        :param run: its id, for the API.
        """
        root = root or os.environ.get("FORGE_RUN_ROOT", "")
        url, token = os.environ.get("FORGE_API_URL", ""), os.environ.get("FORGE_RUN_TOKEN", "")
        self.step = step
        if root:
            place = StorePlace(root, self.task, self.process, self.newest)
            self._outlet(f"events are not written to {root}", place)
            self._count_on(place)
        if url and token and run:
            self._outlet(f"events are not sent to {url}", ApiPlace(url, token, run, self.task, self.process))
        if self.outlets:
            self._watching.enter_context(tee.told(self._line))
        for outlet in self.outlets:
            outlet.thread.start()

    def trying(self, attempt: int) -> None:
        """An attempt begins."""
        self.newest.begin(attempt)
        self.began = time.time(), time.monotonic()
        self._tell("state", {"state": "running", "started": self.began[0], **self._who()})

    def progress(self, line: dict[str, Any], ends: bool = False) -> None:
        """Take a line of progress (progress.py).

        :param ends: a stage ends with it.
        """
        if not self.outlets:
            return
        self.newest.take(line, ends=ends)
        if "stage" in line:
            progress = {name: line[name] for name in ("stage", "step", "total", "eta")}
            self.spool.put("progress", progress, attempt=self.attempt, at=line["time"])
            if line["metrics"]:
                self.measured(line["metrics"], line["stage"], line["step"], at=line["time"])
        if ends:
            self._hurry()

    def measured(
        self, values: Mapping[str, float | None], stage: str, step: int = 0, *, at: float | None = None
    ) -> None:
        """Take what was measured."""
        if self.outlets:
            finite = {
                name: value if value is not None and math.isfinite(value) else None
                for name, value in values.items()
            }
            data = {"values": finite, "stage": stage, "step": step}
            self.spool.put("metric", data, attempt=self.attempt, at=at)

    def note(self, text: str) -> None:
        """Say something that the newest progress carries."""
        self.newest.take({"note": text})

    def failed(self, error: BaseException, exit_code: int) -> None:
        """An attempt has failed, or was stopped."""
        if isinstance(error, ForgeError):
            data = {"what": error.what, "where": error.where, "why": error.why, "fix": error.fix}
        else:
            data = {"what": type(error).__name__, "where": "", "why": str(error)[:2000], "fix": ""}
        self.note(str(error) or type(error).__name__)
        if not isinstance(error, Interrupted | KeyboardInterrupt):
            self._tell("error", {**data, "exit_code": exit_code})

    def ended(self, exit_code: int) -> None:
        """The process is about to end."""
        state = {0: "succeeded", Interrupted.exit_code: "interrupted", 130: "interrupted"}
        usage = resource.getrusage(resource.RUSAGE_SELF)
        figures = {
            "started": self.began[0],
            "finished": time.time(),
            "exit_code": exit_code,
            "seconds": time.monotonic() - self.began[1],
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_memory_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        }
        self._tell("state", {"state": state.get(exit_code, "failed"), **self._who(), **figures})

    def _who(self) -> dict[str, str]:
        pod = os.environ.get("KFP_POD_NAME", "")
        return {"phase": self.phase, "step": self.step, "pod": pod, "host": os.uname().nodename}

    def _tell(self, kind: Any, data: Mapping[str, Any]) -> None:
        if self.outlets:
            self.spool.put(kind, data, attempt=self.attempt)
            self._hurry()

    def _line(self, line: str) -> None:
        self.spool.log(line, attempt=self.attempt)
        if self.spool.bytes >= CHUNK_BYTES:
            self._wake()

    def _hurry(self) -> None:
        self._hurried = True
        self._wake()

    def _wake(self) -> None:
        for outlet in self.outlets:
            outlet.hurry()

    def _outlet(self, trouble: str, place: StorePlace | ApiPlace) -> None:
        self.outlets.append(Outlet(trouble, place, self._next_chunk, self.say, every=self.every))

    def _next_chunk(self, closing: bool) -> bool:
        """Make a chunk, for every place. False where none is due, or there is no room for it."""
        with self._lock:
            due = self._hurried or time.monotonic() - self._made >= self.every * 0.9
            if not (closing or due or self.spool.bytes >= CHUNK_BYTES) or len(self._nowhere()) >= WAITING:
                return False
            self._hurried, self._made = False, time.monotonic()
            items = self.spool.take(CHUNK_BYTES)
            if not items:
                return False
            self._chunks += 1
            lines = [item.line(n) for n, item in enumerate(items, self._items + 1)]
            self._items += len(items)
            chunk = Chunk(self._chunks, lines)
            for outlet in self.outlets:
                outlet.backlog.append(chunk)
                outlet.give_up()
            return True

    def _nowhere(self) -> set[int]:
        """The numbers of the chunks that are nowhere but here."""
        waiting = [chunk for outlet in self.outlets for chunk in list(outlet.backlog)]
        return {chunk.number for chunk in waiting if not chunk.delivered}

    def _untold(self) -> bool:
        return self.spool.bytes > 0 or bool(self._nowhere())

    def _count_on(self, place: StorePlace) -> None:
        """Count on from the attempts of pods that are gone; a store that hangs is not waited for long."""

        def look() -> None:
            with contextlib.suppress(Exception):  # whatever a store can do; the first chunk says it
                self.newest.attempt = max(self.newest.attempt, place.attempts_before())

        looking = threading.Thread(target=look, name="reporter attempts", daemon=True)
        looking.start()
        looking.join(PATIENCE)
