"""What a running task writes into its folder, as events: progress and metrics (`progress.jsonl`), lines (`log.txt`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..runs.events import LogLines, Metrics, Progress
from ..runs.folder import TaskFolder
from ..runs.log import EventLog

SECONDS = 0.5
BYTES = 1 << 18
"""Of a file, so much becomes events each time. What a task writes faster than that is only in its file."""

LINE = 4000
"""Characters of a line that become an event."""

LINES_BYTES = 40 << 10
"""Lines become one event up to this size as JSON, so that it is below what the log of every reader takes of one."""


class TaskFeed:
    """Reads on in the two files of a task, from where the run's events end.

    :param log_bytes: so much of the log is in the events already; `progress_bytes` is the same for the progress.
    """

    def __init__(self, folder: TaskFolder, events: EventLog, log_bytes: int, progress_bytes: int) -> None:
        self.folder = folder
        self.events = events
        self.log_bytes = log_bytes
        self.progress_bytes = progress_bytes

    @contextlib.asynccontextmanager
    async def flowing(self, attempt: int) -> AsyncIterator[None]:
        """Make events of what is written, until the block ends; then of the rest."""
        pumping = asyncio.create_task(self._pump_on(attempt))
        try:
            yield
        finally:
            pumping.cancel()
            self.pump(attempt, last=True)

    async def _pump_on(self, attempt: int) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            self.pump(attempt)

    def pump(self, attempt: int, *, last: bool = False) -> None:
        """Make events of what was written since the last call.

        :param last: nothing more will be written: a line without an end is one, too.
        """
        task = self.folder.task
        lines, self.progress_bytes = _new_lines(self.folder.progress, self.progress_bytes, last=last)
        for end, text in lines:
            self._progress(text, end, attempt)
        lines, self.log_bytes = _new_lines(self.folder.log, self.log_bytes, last=last)
        for some in _grouped(lines):
            self.events.append(some, task=task, attempt=attempt)

    def result(self, attempt: int) -> None:
        """Make an event of the figures that the finished task has left for KFP."""
        try:
            outputs: dict[str, Any] = json.loads(self.folder.output_metadata.read_text())["artifacts"]
            [metrics] = outputs["metrics"]["artifacts"]
            values: dict[str, float | None] = {
                str(name): float(value) for name, value in metrics["metadata"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return  # it has none: a toy, a report, an importer
        if values:
            self.events.append(Metrics(values, stage="result"), task=self.folder.task, attempt=attempt)

    def _progress(self, text: bytes, end: int, attempt: int) -> None:
        try:
            line = json.loads(text)
            progress = Progress(
                str(line["stage"]), int(line["step"]), int(line["total"]), line.get("eta"), end
            )
            at = float(line["time"])
            values = {str(name): value for name, value in (line.get("metrics") or {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # a note, which is in the log too, or a line that a kill has cut off
        self.events.append(progress, task=self.folder.task, attempt=attempt, at=at)
        if values:
            metrics = Metrics(values, progress.stage, progress.step)
            self.events.append(metrics, task=self.folder.task, attempt=attempt, at=at)


def _grouped(lines: Sequence[tuple[int, bytes]]) -> Iterator[LogLines]:
    """Lines as events of a size that fits, each with the byte at which its last line ends."""
    texts: list[str] = []
    behind = size = 0
    for end, line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")[:LINE]
        more = len(json.dumps(text)) + 1
        if texts and size + more > LINES_BYTES:
            yield LogLines(texts, end=behind)
            texts, size = [], 0
        texts.append(text)
        size += more
        behind = end
    if texts:
        yield LogLines(texts, end=behind)


def _new_lines(path: Path, begin: int, *, last: bool) -> tuple[list[tuple[int, bytes]], int]:
    """The lines behind byte `begin`, each with the byte at which it ends; and where to go on.

    Of a file that has grown faster than it can be told only the end is read, and a line says so.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return [], 0
    if size < begin:  # written anew
        begin = 0
    lines: list[tuple[int, bytes]] = []
    if size - begin > BYTES:
        lines.append((size - BYTES, f"… {size - BYTES - begin:,} bytes are only in {path.name}".encode()))
        begin = size - BYTES
    with path.open("rb") as file:
        file.seek(begin)
        text = file.read(size - begin)
    for line in text.splitlines(keepends=True):
        if not line.endswith((b"\n", b"\r")) and not last:
            break
        begin += len(line)
        lines.append((begin, line))
    return lines, begin
