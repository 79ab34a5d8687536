"""The strip of phases that stands for a run: from its tasks, how far each phase is, and when the run may end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...local.forecast import seconds_of
from ...local.plan import PlannedTask
from ...phases import PHASES
from ...runs.folder import DONE, ENDED

Row = Mapping[Any, Any]
"""A row of the database, by its columns."""


@dataclass
class TaskRow:
    """A task as the database has it.

    :param status: the newest `TaskStatus`, as JSON.
    :param progress: the newest `Progress` and its time; `expected` are the seconds that an earlier run took.
    """

    task: str
    phase: str
    state: str
    attempt: int = 0
    position: int = 0
    status: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1: a running one by the steps of its stage."""
        if self.state in DONE:
            return 1.0
        total = float(self.progress.get("total") or 0)
        if self.state != "running" or not total:
            return 0.0
        return min(1.0, float(self.progress.get("step") or 0) / total)

    def left(self, now: float) -> float | None:
        """Seconds that it still needs; None where nothing tells."""
        expected = self.progress.get("expected")
        if self.state in ENDED:
            return 0.0
        if self.state != "running":
            return expected
        whole = None if expected is None else expected - (now - (self.status.get("started") or now))
        stage = self.progress.get("eta")
        of_stage = None if stage is None else float(stage) - (now - float(self.progress.get("time") or now))
        known = [seconds for seconds in (whole, of_stage) if seconds is not None]
        return max(0.0, *known) if known else None


def strip(tasks: Sequence[TaskRow], *, ended: bool) -> dict[str, dict[str, Any]]:
    """The phases of a run in their order, each with how it is.

    :param ended: the run has: what has not begun in it was left out.
    """
    phases: dict[str, dict[str, Any]] = {}
    for phase in sorted({task.phase for task in tasks if task.phase}, key=_order):
        own = [task for task in tasks if task.phase == phase]
        running = max(
            (task for task in own if task.state == "running"),
            key=lambda task: task.progress.get("time") or 0.0,
            default=None,
        )
        progress = running.progress if running else {}
        phases[phase] = {
            "state": _state([task.state for task in own], ended=ended),
            "share": round(sum(task.share for task in own) / len(own), 4),
            "stage": progress.get("stage", ""),
            "step": progress.get("step", 0),
            "total": progress.get("total", 0),
            "eta": progress.get("eta"),
            "attempts": max(task.attempt for task in own),
        }
    return phases


def end_of(tasks: Iterable[TaskRow], slots: int, now: float) -> float | None:
    """Unix seconds at which a run may end, if its tasks take as long as they did before; None where that is not known."""
    planned = [
        PlannedTask(
            task.task, task.phase, "", "run" if task.state not in ENDED else "done",
            task.left(now), tuple(task.status.get("depends_on") or ()),
        )
        for task in tasks
    ]  # fmt: skip
    seconds = seconds_of(planned, max(1, slots))
    return None if seconds is None else now + seconds


def failing(tasks: Iterable[TaskRow]) -> TaskRow | None:
    """The task that failed first."""
    failed = [task for task in tasks if task.state == "failed"]
    return min(failed, key=lambda task: task.status.get("finished") or float("inf"), default=None)


def _state(states: Sequence[str], *, ended: bool) -> str:
    known = set(states)
    for state in ("failed", "running", "interrupted", "cancelled"):
        if state in known:
            return state
    if known <= {"cached"}:
        return "cached"
    if known <= set(DONE):
        return "succeeded"
    if known & set(DONE):
        return "running" if not ended else "cancelled"
    return "left out" if ended else "pending"


def _order(phase: str) -> tuple[int, str]:
    return (PHASES.index(phase) if phase in PHASES else len(PHASES), phase)


def row_of(values: Row) -> TaskRow:
    """A row of the table `task`."""
    return TaskRow(
        values["task"], values["phase"], values["state"], values["attempt"], values["position"],
        dict(values["status"]), dict(values["progress"]),
    )  # fmt: skip
