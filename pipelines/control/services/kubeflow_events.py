"""What has changed in a run on Kubeflow since it was last written down, as events of the producer `kfp`.

What is known is in the run's tasks, so any holder can go on comparing. KFP's verdict on a task stands; what its pods have
told of it stays beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import func, select

from ...runs.folder import ENDED, TaskStatus
from ...runs.state import RunState, TaskState
from ..context import Control
from ..store.events import CHANNEL_OF, NewEvent
from ..store.tables import compaction, event
from ..store.tables import task as tasks
from .strip import Row

PRODUCER = "kfp"


async def last_number(control: Control, run: str) -> int:
    """The number of the newest event that KFP's state has made."""
    rows = select(func.max(event.c.n)).where(event.c.run == run, event.c.producer == PRODUCER)
    async with control.database.read() as connection:
        known = int(await connection.scalar(rows) or 0)
        packed = await connection.scalar(select(compaction.c.producers).where(compaction.c.run == run)) or {}
    return max([known, *(int(last) for _, last in packed.get(PRODUCER, []))])


async def known_tasks(control: Control, run: str) -> dict[str, Row]:
    """The tasks of a run, as they are written down."""
    async with control.database.read() as connection:
        rows = await connection.execute(select(tasks).where(tasks.c.run == run))
        return {row["task"]: row for row in rows.mappings()}


def differences(
    row: Row, seen: RunState, known: Mapping[str, Row], said: Sequence[str], after: int
) -> list[NewEvent]:
    """The events that bring what is known up to what is seen.

    :param row: of the run.
    :param said: what is to be said of the run in a line each, such as pods that are gone.
    :param after: the number of the last event of this producer.
    """
    out: list[tuple[str, str, int, dict[str, Any]]] = []
    if row["state"] == "starting" or (row["started"] is None and seen.started is not None):
        out.append(("run", "", 0, _run(row, seen)))
    for task in seen.tasks:
        before = known.get(task.title)
        status = _status(task, before["status"] if before else {}, ended=seen.ended)
        if status is not None:
            out.append(("task", task.title, status["attempts"], status))
    if said:
        out.append(("log", "", 0, {"lines": list(said), "source": "runner", "end": 0}))
    now = time.time()
    return [
        NewEvent(CHANNEL_OF[kind], task, attempt, PRODUCER, n, now, {"kind": kind, **data})
        for n, (kind, task, attempt, data) in enumerate(out, after + 1)
    ]


def newly_done(events: Sequence[NewEvent]) -> list[str]:
    """The tasks that have succeeded, by these events."""
    return [one.task for one in events if one.data["kind"] == "task" and one.data["status"] == "succeeded"]


def _run(row: Row, seen: RunState) -> dict[str, Any]:
    return {
        "name": row["id"], "status": "running", "started": seen.started, "finished": None,
        "profile": row["profile"], "seed": row["seed"], "parameters": row["parameters"],
    }  # fmt: skip


def _status(task: TaskState, known: Mapping[str, Any], *, ended: bool) -> dict[str, Any] | None:
    """The status of a task, whole; None where it is what is known."""
    attempts = max(task.attempts, int(known.get("attempts") or 0))
    state = task.state
    if state == "pending" and known.get("status") == "running" and not (ended or task.why):
        state = "running"  # its pod says so, and KFP has not noticed yet
    fresh: dict[str, Any] = {"status": state, "attempts": attempts, "error": task.why}
    for name, value in (("started", task.started), ("finished", task.finished)):
        fresh[name] = value if value is not None else known.get(name)
    if state not in ENDED:
        fresh["finished"] = None
    elif fresh["started"] and fresh["finished"] and not known.get("seconds"):
        fresh["seconds"] = max(0.0, fresh["finished"] - fresh["started"])
    if task.pod:
        fresh["pod"] = task.pod
    before = {**asdict(TaskStatus(task.title, task.phase, task.phase)), **known}
    if known.get("status") and all(before.get(name) == value for name, value in fresh.items()):
        return None
    return {**before, **fresh, "task": task.title, "phase": task.phase}
