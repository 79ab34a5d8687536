"""The tasks of a Kubeflow run, as its compiled pipeline names them, and the words in which KFP tells how they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from ...phases import PHASES
from ...runs.folder import State
from ...runs.state import TaskState
from .store import specification_of

CANCELING = ("CANCELING", "CANCELLING")
"""What KFP calls a run that it has been asked to end, and that has not."""

STATES: Mapping[str, State] = {
    "PENDING": "pending",
    "PAUSED": "pending",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "ERROR": "failed",
    "CANCELING": "cancelled",
    "CANCELLING": "cancelled",
    "CANCELED": "cancelled",
    "CANCELLED": "cancelled",
    "SKIPPED": "skipped",
}
"""KFP's words, and those of its older versions."""


def state_of(run: Mapping[str, Any]) -> State:
    """The state of a run. One that was terminated ends as FAILED in KFP; its history knows, up to its last retry."""
    now = STATES.get(str(run.get("state", "")).upper(), "pending")
    terminated = False
    for change in run.get("state_history") or []:
        state = STATES.get(str(change.get("state", "")).upper())
        terminated = state == "cancelled" or (terminated and state not in ("running", "pending"))
    return "cancelled" if now == "failed" and terminated else now


def tasks_of(run: Mapping[str, Any]) -> Iterator[TaskState]:
    """The containers of the run's compiled pipeline, in the order of the graph."""
    spec = specification_of(run)
    executors = ((spec.get("deploymentSpec") or {}).get("executors")) or {}
    yield from _tasks(spec, (spec.get("root") or {}).get("dag") or {}, executors, "")


def _tasks(
    spec: Mapping[str, Any],
    dag: Mapping[str, Any],
    executors: Mapping[str, Any],
    above: str,
    inside: Sequence[str] = (),
) -> Iterator[TaskState]:
    """The containers of one graph and of those in it.

    :param inside: the components around this graph; one that holds itself is not entered again.
    """
    tasks_here = []
    tasks: Mapping[str, Any] = dag.get("tasks") or {}
    for name in _in_order(tasks):
        task = tasks[name]
        reference = (task.get("componentRef") or {}).get("name") or ""
        component = (spec.get("components") or {}).get(reference) or {}
        if "dag" in component and reference not in inside:
            yield from _tasks(spec, component["dag"], executors, f"{above}{name}/", (*inside, reference))
        container = (executors.get(component.get("executorLabel") or "") or {}).get("container")
        if container:
            title = str((task.get("taskInfo") or {}).get("name") or name)
            tasks_here.append(TaskState(f"{above}{name}", title, phase_of(title) or phase_of(name)))
    yield from tasks_here


def _in_order(tasks: Mapping[str, Any]) -> list[str]:
    """Each task behind those that it depends on."""
    ordered: list[str] = []
    left = list(tasks)
    while left:
        ready = [
            name for name in left if not set(tasks[name].get("dependentTasks") or []) & set(left)
        ] or left
        ordered += ready
        left = [name for name in left if name not in ready]
    return ordered


def phase_of(name: str) -> str:
    """The phase to which a task of this name belongs, "" for none."""
    return next((phase for phase in PHASES if name == phase or name.startswith(f"{phase}-")), "")


def seconds(text: Any) -> float | None:
    """Unix seconds of the API's time; None for none, which it writes as 1970."""
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(text))).timestamp()
    except (ValueError, OverflowError):
        return None
    return moment if moment > 0 else None
