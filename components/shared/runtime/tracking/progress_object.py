"""How far a task has come, as one small object in the store of its run: what a terminal far from the pod reads.

`<run root>/progress/<task>.json` is the newest progress line (progress.py), its last note, and `attempt`, `process`,
`host` and `updated` (Unix seconds). It is written at most every fifteen seconds and at the end of each stage, by whoever
brings the chunks of events to the same store (outlets.py).
"""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

from ..errors import MissingKey
from ..store.interface import Store

EVERY = 15.0


class ProgressObject:
    """The newest of a task's progress, until it is written.

    :param task: what people call the task.
    :param process: the name under which this process tells its events.
    """

    def __init__(self, task: str, process: str, *, every: float = EVERY) -> None:
        self.process = process
        self.key = f"progress/{task}.json"
        self.every = every
        self.attempt = 0
        self._line: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._fresh = self._hurried = False
        self._written = float("-inf")

    def begin(self, attempt: int) -> None:
        """An attempt begins: the next one counts on from it, also where this one is killed at once."""
        with self._lock:
            self.attempt = attempt
            self._fresh = self._hurried = True

    def take(self, line: dict[str, Any], *, ends: bool = False) -> None:
        """Take a line of progress, or a note.

        :param ends: a stage ends with it: it is written without waiting.
        """
        with self._lock:
            kept = {"note": self._line["note"]} if "note" in self._line else {}
            self._line = {**self._line, **line} if "note" in line else {**kept, **line}
            self._fresh = True
            self._hurried = self._hurried or ends

    def due(self, *, closing: bool) -> bool:
        """Whether it should be written now."""
        waited = time.monotonic() - self._written >= self.every
        return self._fresh and (closing or self._hurried or waited)

    def put(self, store: Store) -> None:
        """Write it.

        :param store: the store at the root of the run.
        :raises StoreError: it does not work.
        """
        with self._lock:
            self._fresh = self._hurried = False
            line = dict(self._line)
        self._written = time.monotonic()
        content = {
            **line,
            "attempt": self.attempt,
            "process": self.process,
            "host": socket.gethostname(),
            "updated": time.time(),
        }
        store.put(self.key, json.dumps(content, ensure_ascii=False).encode())

    def attempts_before(self, store: Store) -> int:
        """Attempts in pods that are gone; 0 where what is there cannot be understood.

        :raises StoreError: it does not work.
        """
        try:
            return int(json.loads(store.get(self.key))["attempt"])
        except (MissingKey, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return 0
