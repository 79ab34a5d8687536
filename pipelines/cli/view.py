"""What a run looks like while it goes on: the eight phases, each with its bar and the time that it still needs.

Everything is read from the run's folder, so that `forge status` shows a run of another process, or of yesterday, alike.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..phases import PHASES
from ..runs.folder import DONE, RunFolder, Status

COLOURS = {
    "succeeded": "green",
    "cached": "cyan",
    "running": "yellow",
    "failed": "bold red",
    "cancelled": "red",
    "interrupted": "magenta",
    "pending": "dim",
}
GRAVEST_FIRST = ("failed", "interrupted", "cancelled", "running", "pending", "succeeded", "cached")


def table(folder: RunFolder, *, active: bool, now: float | None = None) -> Table:
    """The phases of a run as a table.

    :param active: whether a process is at it; without one, what was running has been interrupted.
    """
    now = time.time() if now is None else now
    info = folder.info()
    statuses = list(folder.tasks())
    for status in statuses:
        if status.status == "running" and not active:
            status.status = "interrupted"  # type: ignore[assignment]
    took = (info.get("finished") or (now if active else info["started"])) - info["started"]
    out = Table(
        title=Text(
            f"{folder.name} · {info['status'] if active or info['status'] != 'running' else 'interrupted'}"
            f" · {duration(took)}"
        ),  # a name is no markup
        title_style="bold",
        title_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    for name in ("phase", "", "progress", "at"):
        out.add_column(name, no_wrap=True)
    for name in ("took", "left", "memory"):
        out.add_column(name, justify="right", no_wrap=True)
    rows = [(phase, [one for one in statuses if one.phase == phase]) for phase in PHASES]
    others = [(one.component, [one]) for one in statuses if not one.phase]
    for name, tasks in (*rows, *others):
        if tasks or any(of_phase for _, of_phase in rows) or not others:
            out.add_row(*_row(name, tasks, folder, now))
    return out


def _row(name: str, tasks: Sequence[Status], folder: RunFolder, now: float) -> tuple[Any, ...]:
    if not tasks:
        return name, Text("–", style="dim"), "", "", "", "", ""
    state = next(state for state in GRAVEST_FIRST if any(one.status == state for one in tasks))
    if state == "pending" and any(one.status in DONE for one in tasks):
        state = "running"
    done: float = sum(one.status in DONE for one in tasks)
    at, left = "", 0.0
    for one in tasks:
        if one.status == "running" and (line := folder.task(one.task).last_progress()):
            share = line["step"] / line["total"] if line["total"] else 0.0
            done += min(1.0, share)
            at = f"{line['stage']} {line['step']}/{line['total']}"
            left = max(left, (line["eta"] or 0.0) - (now - line["time"]))
    errors = [one for one in tasks if one.status == "failed"]
    ran = [one for one in tasks if one.started]
    spans = [
        (one.started or now, one.finished or (now if one.status == "running" else one.started or now))
        for one in ran
    ]
    took = max(end for _, end in spans) - min(start for start, _ in spans) if spans else 0.0
    memory = max((one.peak_memory_bytes for one in tasks), default=0)
    return (
        name,
        Text(state, style=COLOURS[state]),
        ProgressBar(total=len(tasks), completed=done, width=20),
        Text((errors[0].error if errors else at)[:48], style="red" if errors else ""),
        duration(took) if ran else "",
        duration(left) if left > 0 else "",
        f"{memory / 2**20:,.0f} MiB" if memory else "",
    )


def duration(seconds: float) -> str:
    """12 s, 3:07 min, 2:15 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
