"""How far a phase has come: JSON lines for machines, a live bar with the time left for people.

A line of the file is {time, task, phase, stage, step, total, metrics, eta}, with `time` in Unix seconds and
`eta` the seconds left in this stage, or {time, task, phase, note}. A metric that is no finite number is
null there. In a pod whoever watches reads no file: a sink gets the same lines.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

LINE_SECONDS = 0.5
TEXT_SECONDS = 5.0

Sink = Callable[[dict[str, Any], bool], None]
"""Gets each line, and whether a stage ends with it."""


class Progress:
    """The progress of one phase, stage by stage.

    >>> progress.start("pretrain", total=600, at=step)      # `at` is where a resumed loop goes on
    >>> progress.step(loss=loss.item())
    >>> progress.done()
    """

    def __init__(
        self,
        phase: str,
        *,
        file: Path | None = None,
        task: str = "",
        stream: TextIO | None = None,
        sink: Sink | None = None,
    ) -> None:
        self.phase = phase
        self.task = task or os.environ.get("FORGE_TASK", phase)
        self.file = file
        self.sink = sink
        self.stream = sys.stderr if stream is None else stream
        self.stage = ""
        self.total = self.at = self.first = 0
        self.metrics: dict[str, float] = {}
        self.started = self.lined = self.printed = 0.0
        self.bar: Bar | None = None
        self.bar_task: TaskID | None = None

    def start(self, stage: str, total: int, *, at: int = 0) -> None:
        """Begin a stage of `total` steps, `at` of which were done before a restart."""
        if self.stage:
            self.done()
        self.stage, self.total, self.at, self.first, self.metrics = stage, total, at, at, {}
        self.started = self.printed = time.monotonic()
        self.lined = 0.0
        if self.stream.isatty():
            self.bar = Bar(
                TextColumn(f"[bold]{self.phase}[/bold] {{task.description}}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[metrics]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(file=self.stream),
            )
            self.bar.start()
            self.bar_task = self.bar.add_task(stage, total=total, completed=at, metrics="")
        self._emit()

    def step(self, n: int = 1, **metrics: float) -> None:
        """`n` more steps are done; the metrics are those of the last of them."""
        self.at += n
        self.metrics.update({name: float(value) for name, value in metrics.items()})
        now = time.monotonic()
        if now - self.lined >= LINE_SECONDS:
            self._emit(now)
        if self.bar is not None and self.bar_task is not None:
            self.bar.update(self.bar_task, completed=self.at, metrics=self._figures())
        elif now - self.printed >= TEXT_SECONDS:
            self._print(now)

    def done(self) -> None:
        """End the stage. Its last line is always written."""
        if not self.stage:
            return
        self._emit(ends=True)
        if self.bar is not None and self.bar_task is not None:
            self.bar.update(self.bar_task, completed=self.at, metrics=self._figures())
            self.bar.stop()
            self.bar = self.bar_task = None
        else:
            self._print(time.monotonic())
        self.stage = ""

    def note(self, text: str) -> None:
        """Say something to the person who watches, once."""
        self._write({"time": time.time(), "task": self.task, "phase": self.phase, "note": text})
        if self.bar is not None:
            self.bar.console.print(f"{self.phase}: {text}", markup=False, highlight=False)
        else:
            print(f"{self.phase}: {text}", file=self.stream, flush=True)

    @property
    def eta(self) -> float | None:
        """Seconds left in this stage at its speed so far; None before its first step."""
        done = self.at - self.first
        if done <= 0:
            return None
        return max(0.0, (time.monotonic() - self.started) / done * (self.total - self.at))

    def _figures(self) -> str:
        return " ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())

    def _print(self, now: float) -> None:
        self.printed = now
        share = f"{100 * self.at // self.total} %" if self.total else ""
        eta = self.eta
        left = f", {eta:.0f} s left" if eta and self.at < self.total else f", {now - self.started:.1f} s"
        figures = self._figures()
        text = f"{self.phase}: {self.stage} {self.at}/{self.total} ({share}{left})" + (
            f" {figures}" if figures else ""
        )
        print(text, file=self.stream, flush=True)

    def _emit(self, now: float | None = None, *, ends: bool = False) -> None:
        self.lined = time.monotonic() if now is None else now
        eta = self.eta
        self._write(
            {
                "time": time.time(),
                "task": self.task,
                "phase": self.phase,
                "stage": self.stage,
                "step": self.at,
                "total": self.total,
                "metrics": {n: value if math.isfinite(value) else None for n, value in self.metrics.items()},
                "eta": None if eta is None else round(eta, 1),
            },
            ends,
        )

    def _write(self, line: dict[str, Any], ends: bool = False) -> None:
        if self.sink is not None:
            self.sink(line, ends)
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:  # a full disk for progress lines must not end hours of training
            broken, self.file = self.file, None
            print(
                f"{self.phase}: progress is no longer written to {broken}: {error}",
                file=self.stream,
                flush=True,
            )
