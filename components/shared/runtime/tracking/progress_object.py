"""How far a task has come, as one small object in the store of its run: what a terminal far from the pod reads.

`<run root>/progress/<task>.json` is the newest progress line (progress.py), its last note, and `attempt`, `host` and
`updated` (Unix seconds). It is written from a thread of its own, at most every fifteen seconds and at the end of each
stage: a store that is slow or away costs a phase nothing, and is said once.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..errors import ForgeError, MissingKey
from ..store.interface import Store
from ..store.uri import open_store

EVERY = 15.0
PATIENCE = 5.0
"""Seconds that the last write may take after the phase has ended."""


class ProgressObject:
    """A sink for progress lines. Use as a context manager.

    :param root: the root of the run in its store; "" keeps everything to itself.
    :param say: where trouble is reported, once.
    """

    def __init__(self, root: str, phase: str, say: Callable[[str], None], *, every: float = EVERY) -> None:
        self.root = root
        self.say = say
        self.every = every
        self.key = f"{os.environ.get('FORGE_TASK', phase)}.json"
        self.attempt = 0
        self._store: Store | None = None
        self._line: dict[str, Any] = {}
        self._fresh = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._broken = False
        self._thread = threading.Thread(target=self._work, name="progress", daemon=True)

    def __enter__(self) -> ProgressObject:
        """Count on from the attempts of pods that are gone."""
        if self.root:
            self.attempt = self._tried(self._attempts_before) or 0
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.root:
            if error is not None:
                self({"note": str(error) or type(error).__name__})
            self._closing.set()
            self._hurry.set()
            self._fresh.set()
            self._thread.join(PATIENCE)

    def __call__(self, line: dict[str, Any], ends: bool = False) -> None:
        """Take a line of progress."""
        kept = {"note": self._line["note"]} if "note" in self._line else {}
        self._line = {**self._line, **line} if "note" in line else {**kept, **line}
        self._fresh.set()
        if ends:
            self._hurry.set()

    def _work(self) -> None:
        while True:
            self._fresh.wait()
            self._fresh.clear()
            if self._line:
                self._tried(self._put)
            if self._closing.is_set():
                return
            self._hurry.wait(self.every)
            self._hurry.clear()

    def _put(self) -> None:
        content = {
            **self._line,
            "attempt": self.attempt,
            "host": socket.gethostname(),
            "updated": time.time(),
        }
        self._open().put(self.key, json.dumps(content, ensure_ascii=False).encode())

    def _attempts_before(self) -> int:
        try:
            return int(json.loads(self._open().get(self.key))["attempt"])
        except MissingKey:
            return 0

    def _open(self) -> Store:
        if self._store is None:
            self._store = open_store(f"{self.root}/progress")
        return self._store

    def _tried(self, work: Callable[[], int | None]) -> int | None:
        """Do what may fail: nobody's training ends because somebody else cannot watch it."""
        try:
            return work()
        except (ForgeError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            if not self._broken:
                self._broken = True
                self.say(f"progress cannot be followed in {self.root}/progress/{self.key}: {error}")
            return None
