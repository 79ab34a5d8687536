"""A run as a table: the eight phases, each with its bar, where it is, and the time that it still needs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from components.shared.runtime.wording import duration

from ...phases import PHASES
from ...runs.state import RunState, TaskState

COLOURS = {
    "succeeded": "green",
    "cached": "cyan",
    "skipped": "cyan",
    "running": "yellow",
    "failed": "bold red",
    "cancelled": "red",
    "interrupted": "magenta",
    "pending": "dim",
}
GRAVEST_FIRST = ("failed", "interrupted", "cancelled", "running", "pending", "succeeded", "cached", "skipped")


def table(state: RunState, now: float | None = None) -> RenderableType:
    """The phases of a run as a table, and below it what is not seen from here."""
    now = time.time() if now is None else now
    out = Table(
        title=Text(heading(state, now)), title_style="bold", title_justify="left", header_style="bold"
    )
    out.box, out.pad_edge = None, False
    with_tries = any(task.attempts > 1 for task in state.tasks)
    with_memory = any(task.peak_memory_bytes for task in state.tasks)
    for name in ("phase", "", "progress"):
        out.add_column(name, no_wrap=True)
    for name in (*(["tries"] * with_tries), "took", "left", *(["memory"] * with_memory)):
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("at", overflow="fold")
    for name, tasks in rows(state):
        phase = state_of(tasks)
        total = len(tasks) or 1
        memory = max((task.peak_memory_bytes for task in tasks), default=0)
        out.add_row(
            Text(name),
            Text(phase or "–", style=COLOURS.get(phase, "dim")),
            ProgressBar(total=total, completed=min(total, share(tasks) * total), width=20) if tasks else "",
            *([tries(tasks)] * with_tries),
            took(tasks, now),
            left(tasks, now),
            *([f"{memory / 2**20:,.0f} MiB" if memory else ""] * with_memory),
            Text(note(tasks), style="red" if phase == "failed" else ""),
        )
    return Group(out, *(Text(f"note: {text}", style="dim") for text in state.notes))


def heading(state: RunState, now: float) -> str:
    """Name, state and time of a run."""
    spent = f" · {duration((state.finished or now) - state.started)}" if state.started else ""
    return f"{state.name} · {state.state}{spent}"


def rows(state: RunState) -> Iterator[tuple[str, list[TaskState]]]:
    """The eight phases with their tasks, then tasks of none; of a pipeline without any phase only its tasks."""
    if any(task.phase for task in state.tasks) or not state.tasks:
        for phase in PHASES:
            yield phase, [task for task in state.tasks if task.phase == phase]
    for task in state.tasks:
        if not task.phase:
            yield task.title, [task]


def state_of(tasks: Sequence[TaskState]) -> str:
    """The state of a phase: the gravest of its tasks'."""
    states = {task.state for task in tasks}
    gravest = next((state for state in GRAVEST_FIRST if state in states), "")
    return "running" if gravest == "pending" and any(task.done for task in tasks) else gravest


def share(tasks: Sequence[TaskState]) -> float:
    """How much of a phase is done, from 0 to 1: its tasks alike."""
    return sum(task.share for task in tasks) / len(tasks) if tasks else 0.0


def tries(tasks: Sequence[TaskState]) -> str:
    """The most attempts that one of the tasks took."""
    most = max((task.attempts for task in tasks), default=0)
    return str(most) if most else ""


def took(tasks: Sequence[TaskState], now: float) -> str:
    """From the first start to the last end."""
    begun = [task for task in tasks if task.started]
    ends = [task.finished or (now if task.state == "running" else task.started or now) for task in begun]
    return duration(max(ends) - min(task.started or now for task in begun)) if begun else ""


def left(tasks: Sequence[TaskState], now: float) -> str:
    """What the slowest stage under way still needs."""
    most = max((task.left(now) or 0.0 for task in tasks), default=0.0)
    return duration(most) if most > 0 else ""


def note(tasks: Sequence[TaskState]) -> str:
    """What is to be said of a phase: why it failed or waits, else where it is."""
    for state in ("failed", "pending", "running"):
        for task in tasks:
            if task.state == state and task.why:
                return f"{task.title}: {task.why}"
    for task in tasks:
        line = task.progress
        if task.state == "running" and line.get("stage"):
            return f"{line['stage']} {line.get('step', 0)}/{line.get('total', 0)} ({100 * task.share:.0f} %)"
    return ""
