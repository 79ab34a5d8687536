"""A Kubeflow run on the screen: the same table as a run on this machine, and lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..cli.view import COLOURS, duration
from ..phases import PHASES
from .state.run import RunView
from .state.tasks import DONE, TaskView

GRAVEST_FIRST = ("failed", "cancelled", "running", "pending", "succeeded", "cached", "skipped")


def strip(view: RunView, now: float | None = None) -> RenderableType:
    """The phases of a run as a table, and below it what is not seen from here."""
    now = time.time() if now is None else now
    out = Table(title=Text(heading(view, now)), title_style="bold", title_justify="left", header_style="bold")
    out.box, out.pad_edge = None, False
    for name in ("phase", "", "progress"):
        out.add_column(name, no_wrap=True)
    for name in ("tries", "took", "left"):
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("at", overflow="fold")
    for name, tasks in rows(view):
        state = state_of(tasks)
        total = len(tasks) or 1
        at = note(tasks)
        out.add_row(
            Text(name),
            Text(state or "–", style=COLOURS.get(state, "dim")),
            ProgressBar(total=total, completed=min(total, share(tasks) * total), width=20) if tasks else "",
            tries(tasks),
            took(tasks, now),
            left(tasks, now),
            Text(at, style="red" if state == "failed" else ""),
        )
    return Group(out, *(Text(f"note: {one}", style="dim") for one in view.notes))


def heading(view: RunView, now: float) -> str:
    """Name, state and time of a run."""
    spent = f" · {duration((view.finished or now) - view.started)}" if view.started else ""
    return f"{view.name} · {view.state}{spent}"


def rows(view: RunView) -> Iterator[tuple[str, list[TaskView]]]:
    """The eight phases with their tasks, then tasks of none."""
    for phase in PHASES:
        yield phase, [task for task in view.tasks if task.phase == phase]
    for task in view.tasks:
        if not task.phase:
            yield task.title, [task]


def lines(view: RunView, before: RunView | None, now: float | None = None) -> Iterator[str]:
    """What has changed since `before`, line by line."""
    now = time.time() if now is None else now
    old = {task.name: task for task in before.tasks} if before else {}
    if before is None or before.state != view.state:
        yield heading(view, now)
    for task in view.tasks:
        was = old.get(task.name)
        shown = (task.state, task.why, task.attempts if task.attempts > 1 else 1)
        if task.state == "pending" and not task.why:
            continue
        if was is None or shown != (was.state, was.why, was.attempts if was.attempts > 1 else 1):
            again = f", attempt {task.attempts}" if task.attempts > 1 else ""
            yield f"{task.title}: {task.state}{again}" + (f": {task.why}" if task.why else "")
        elif task.state == "running" and task.progress and _stage(task) != _stage(was):
            yield f"{task.title}: {note([task])}" + (
                f", {left([task], now)} left" if left([task], now) else ""
            )
    for one in view.notes:
        if before is None or one not in before.notes:
            yield f"note: {one}"


def state_of(tasks: Sequence[TaskView]) -> str:
    """The state of a phase: the gravest of its tasks'."""
    states = {task.state for task in tasks}
    found = next((one for one in GRAVEST_FIRST if one in states), "")
    return "running" if found == "pending" and states & DONE else found


def share(tasks: Sequence[TaskView]) -> float:
    """How much of a phase is done, from 0 to 1: its tasks alike, a running one by the steps of its stage."""
    done = [1.0 if task.state in DONE else _part(task) if task.state == "running" else 0.0 for task in tasks]
    return sum(done) / len(done) if done else 0.0


def tries(tasks: Sequence[TaskView]) -> str:
    """The most attempts that one of the tasks took."""
    most = max((task.attempts for task in tasks), default=0)
    return str(most) if most else ""


def took(tasks: Sequence[TaskView], now: float) -> str:
    """From the first start to the last end."""
    starts = [task.started for task in tasks if task.started]
    ends = [task.finished or now for task in tasks if task.started]
    return duration(max(ends) - min(starts)) if starts else ""


def left(tasks: Sequence[TaskView], now: float) -> str:
    """What the slowest stage under way still needs."""
    eta = [
        float(task.progress["eta"]) - (now - float(task.progress.get("time") or now))
        for task in tasks
        if task.state == "running" and task.progress.get("eta") is not None
    ]
    return duration(max(eta)) if eta and max(eta) > 0 else ""


def note(tasks: Sequence[TaskView]) -> str:
    """What is to be said of a phase: why it failed or waits, else where it is."""
    for state in ("failed", "pending", "running"):
        for task in tasks:
            if task.state == state and task.why:
                return f"{task.title}: {task.why}"
    for task in tasks:
        line: dict[str, Any] = task.progress
        if task.state == "running" and line.get("stage"):
            return f"{line['stage']} {line.get('step', 0)}/{line.get('total', 0)} ({100 * _part(task):.0f} %)"
    return ""


def _part(task: TaskView) -> float:
    line = task.progress
    return min(1.0, line.get("step", 0) / line["total"]) if line.get("total") else 0.0


def _stage(task: TaskView) -> tuple[Any, int]:
    """Where a running task is, in tenths of its stage: a line for each is enough."""
    return task.progress.get("stage"), int(10 * _part(task))
