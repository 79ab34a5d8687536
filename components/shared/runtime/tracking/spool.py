"""What a process has to tell and has not told yet, in memory and bounded: the last that is given up is what matters most.

===============  ==========================================================================================
of progress      the newest line of each stage is kept
metrics          the newest METRICS are kept
lines of a log   the newest LOG_BYTES are kept, and a line says how many older ones are missing
states, errors   all are kept
===============  ==========================================================================================

Texts are told as what every reader takes: a NUL or half a character in them is replaced.

An item gets its number when it is taken, so that numbers have no gaps whatever was given up before.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["progress", "metric", "log", "error", "state"]

LOG_BYTES = 1 << 20
LINE = 4000
"""Characters of a line, or of a text of anything else, that are told; its end is in the log of its pod."""

METRICS = 4000
ITEM_BYTES = 48 << 10
"""Lines that came one behind the other are one item, up to this size as JSON: less than a reader takes of one."""

OVERHEAD = 80
"""Bytes around the content of an item, for counting."""


@dataclass
class Item:
    """Something to tell.

    :param number: in the order in which things came.
    :param bytes: about so many, as JSON.
    """

    number: int
    kind: Kind
    time: float
    attempt: int
    data: dict[str, Any]
    bytes: int

    def line(self, n: int) -> dict[str, Any]:
        """It as JSON, under its number `n` in what its process tells."""
        return {"n": n, "time": self.time, "kind": self.kind, "attempt": self.attempt, "data": self.data}


class Spool:
    """Items from any thread, until somebody takes them.

    :param log_bytes: of lines that wait.
    :param metrics: so many wait.
    """

    def __init__(self, *, log_bytes: int = LOG_BYTES, metrics: int = METRICS) -> None:
        self.log_bytes = log_bytes
        self.metrics = metrics
        self._lock = threading.Lock()
        self._numbered = 0
        self._kept: deque[Item] = deque()
        self._measured: deque[Item] = deque()
        self._lines: deque[Item] = deque()
        self._progress: dict[tuple[int, str], Item] = {}
        self._bytes = self._line_bytes = 0
        self._lost_lines = self._lost_metrics = 0

    @property
    def bytes(self) -> int:
        """About so many wait."""
        return self._bytes

    def put(self, kind: Kind, data: Mapping[str, Any], *, attempt: int = 0, at: float | None = None) -> None:
        """Keep something to tell."""
        content = _plain(dict(data))
        size = OVERHEAD + len(ascii(content))
        with self._lock:
            self._numbered += 1
            item = Item(self._numbered, kind, time.time() if at is None else at, attempt, content, size)
            if kind == "progress":
                before = self._progress.get((attempt, str(content.get("stage"))))
                self._bytes -= before.bytes if before else 0
                self._progress[attempt, str(content.get("stage"))] = item
            elif kind == "metric":
                self._measured.append(item)
                if len(self._measured) > self.metrics:
                    self._bytes -= self._measured.popleft().bytes
                    self._lost_metrics += 1
            else:
                self._kept.append(item)
            self._bytes += size

    def log(self, line: str, *, attempt: int = 0) -> None:
        """Keep a line of the log; give up the oldest ones where there are too many."""
        text = _plain(line)
        size = len(json.dumps(text)) + 1
        with self._lock:
            self._numbered += 1
            self._lines.append(Item(self._numbered, "log", time.time(), attempt, {"lines": [text]}, size))
            self._line_bytes += size
            self._bytes += size
            while self._line_bytes > self.log_bytes and len(self._lines) > 1:
                gone = self._lines.popleft()
                self._line_bytes -= gone.bytes
                self._bytes -= gone.bytes
                self._lost_lines += 1

    def take(self, limit: int) -> list[Item]:
        """The next items, in the order in which they came: about `limit` bytes of them, and at least one.

        Lines of a log are put together until something of weight, a state or an error, comes between them.
        """
        with self._lock:
            self._say_what_is_lost()
            waiting = sorted(
                [*self._kept, *self._measured, *self._lines, *self._progress.values()],
                key=lambda item: item.number,
            )
            taken: list[Item] = []
            size = 0
            for item in waiting:
                if taken and size + item.bytes > limit:
                    break
                taken.append(item)
                size += item.bytes
            self._forget(taken)
        return _joined(taken)

    def _say_what_is_lost(self) -> None:
        said = [
            f"… {count:,} {what} were given up while nothing could be told; the pod's own log has them"
            for count, what in ((self._lost_lines, "lines"), (self._lost_metrics, "measurements"))
            if count
        ]
        if said:
            first = min(
                (queue[0] for queue in (self._lines, self._measured) if queue), key=lambda one: one.number
            )
            size = OVERHEAD + sum(map(len, said))
            data = {"lines": said, "source": "runner"}
            self._kept.appendleft(Item(first.number - 1, "log", time.time(), first.attempt, data, size))
            self._bytes += size
        self._lost_lines = self._lost_metrics = 0

    def _forget(self, taken: list[Item]) -> None:
        gone = {id(item) for item in taken}
        self._kept, self._measured, self._lines = (
            deque(item for item in queue if id(item) not in gone)
            for queue in (self._kept, self._measured, self._lines)
        )
        self._progress = {key: item for key, item in self._progress.items() if id(item) not in gone}
        self._bytes -= sum(item.bytes for item in taken)
        self._line_bytes = sum(item.bytes for item in self._lines)


def _plain(value: Any) -> Any:
    """The value with texts that are not too long, and UTF-8 without NUL: a database takes no others."""
    if isinstance(value, str):
        more = len(value) - LINE
        text = value if more <= 0 else f"{value[:LINE]} … ({more:,} characters more)"
        return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _joined(items: list[Item]) -> list[Item]:
    """The items, lines put together with lines."""
    out: list[Item] = []
    lines: Item | None = None
    for item in items:
        if item.kind == "log" and "source" not in item.data:
            fits = lines is not None and lines.bytes + item.bytes <= ITEM_BYTES
            if lines is not None and fits and lines.attempt == item.attempt:
                lines.data["lines"] += item.data["lines"]
                lines.bytes += item.bytes
                continue
            lines = item
        elif item.kind in ("state", "error"):
            lines = None
        out.append(item)
    return out
