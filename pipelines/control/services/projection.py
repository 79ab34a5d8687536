"""What events add up to, kept beside them: written in the transaction that appends them, so that no view is ever behind.

A run's state follows from what its folder, its pods or Kubeflow say (`RunStatus`), and from what the control plane does
with it (`transitions`). A run that was stopped is not `cancelled` before its holder has seen that nothing of it lives.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.artifact.manifest import MANIFEST, Manifest, decode
from components.shared.runtime.errors import ForgeError

from ...phases import PHASES
from ...runs.folder import DONE
from ..context import Control
from ..store.events import Event, NewEvent, append
from ..store.tables import run, task
from ..store.upsert import upsert
from .metrics import points_of, record_execution, record_points
from .models import inputs_of, read_by, register
from .strip import TaskRow, end_of, failing, row_of, strip
from .transitions import OVER

log = logging.getLogger("forge.control")

STATE_OF = {
    "running": "running", "stopping": "cancelling",
    "succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled",
}  # fmt: skip
"""What a run's status makes of its state. `interrupted` makes nothing: somebody has to look first whether it lives."""

Published = Sequence[tuple[str, str, Manifest]]
"""The task, the address and the manifest of each artifact that a batch of events tells of."""


async def record(
    control: Control, run_id: str, events: Sequence[NewEvent], *, epoch: int | None = None
) -> list[Event]:
    """Write events down, with all that follows from them, and wake whoever reads.

    :param epoch: of the lease under which it is done; None for who needs none, such as a pod.
    :returns: those that were new.
    :raises LeaseLost: the run has another holder by now.
    :raises Refused: there is no such run: 404.
    :raises StoreError: the database does not answer.
    """
    folder = await _folder(control, run_id) if _finishes(events) else ""
    published = await asyncio.to_thread(_published, Path(folder), events) if folder else []
    async with control.database.write() as connection:
        new = await append(connection, run_id, events, epoch=epoch)
        if new:
            await project(connection, run_id, new, published)
    if new:
        await control.bus.wake(run_id)
    return new


async def project(
    connection: AsyncConnection, run_id: str, events: Sequence[Event], published: Published = ()
) -> None:
    """Bring run, tasks, metrics, executions and models up to date. Part of the caller's transaction.

    :param events: that were appended just now: the run's row is locked.
    """
    row = (await connection.execute(select(run).where(run.c.id == run_id))).mappings().one()
    rows = await connection.execute(select(task).where(task.c.run == run_id).order_by(task.c.position))
    tasks = {known["task"]: row_of(known) for known in rows.mappings()}
    touched: dict[str, TaskRow] = {}
    changes: dict[str, Any] = {}
    for event in events:
        kind = event.data.get("kind")
        if kind == "run" and "status" in event.data:
            changes |= _run_changes(event.data, {**row, **changes})
        elif kind == "error" and not event.task:
            changes["error"] = {
                name: str(event.data.get(name) or "") for name in ("what", "where", "why", "fix")
            }
        elif kind in ("task", "progress") and event.task:
            own = touched[event.task] = tasks.setdefault(
                event.task, TaskRow(event.task, "", "pending", position=len(tasks))
            )
            _take(own, event, kind)
            if kind == "task":
                await record_execution(connection, run_id, changes.get("profile", row["profile"]), event.data)
                await read_by(connection, run_id, event.task, inputs_of(event.data))
        elif kind == "metric":
            phase = tasks[event.task].phase if event.task in tasks else ""
            await record_points(connection, run_id, event.task, phase, points_of(event.data, event.time))
    await _write_tasks(connection, run_id, touched.values())
    for name, address, manifest in published:
        await register(connection, manifest, address, run_id, name)
    changes |= _summary(list(tasks.values()), {**row, **changes}, events[-1].time)
    if changes.get("state", row["state"]) != row["state"]:
        changes["version"] = row["version"] + 1
    await connection.execute(update(run).where(run.c.id == run_id).values(**changes))


def _run_changes(data: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """What a `RunStatus` changes. One that tells of less than is known changes nothing of that."""
    changes: dict[str, Any] = {}
    state = STATE_OF.get(data["status"])
    if state == "running" and row["asked"]:
        state = "cancelling"
    if state is not None:
        changes["state"] = state
    for name in ("started", "finished"):
        if data.get(name) is not None or (name == "finished" and state == "running"):
            changes[name] = data.get(name)
    for name in ("profile", "seed", "parameters"):
        if data.get(name) not in (None, "", {}):
            changes[name] = data[name]
    if state == "running" and row["state"] in ("queued", "starting", *OVER):
        changes |= {"error": None, "failing": "", "why": ""}
    return changes


def _take(own: TaskRow, event: Event, kind: str) -> None:
    expected = {"expected": own.progress["expected"]} if "expected" in own.progress else {}
    own.attempt = max(own.attempt, event.attempt)
    if kind == "progress":
        shown = {name: event.data.get(name) for name in ("stage", "step", "total", "eta")}
        own.progress = {**shown, "time": event.time, **expected}
        return
    status = {name: value for name, value in event.data.items() if name != "kind"}
    own.status, own.state = {**own.status, **status}, str(status.get("status") or own.state)
    own.phase = str(status.get("phase") or own.phase)
    own.attempt = max(own.attempt, int(status.get("attempts") or 0))
    if own.state != "running":
        own.progress = expected


async def _write_tasks(connection: AsyncConnection, run_id: str, tasks: Any) -> None:
    rows = [
        {
            "run": run_id, "task": own.task, "phase": own.phase if own.phase in PHASES else own.phase[:32],
            "state": own.state, "attempt": own.attempt, "status": own.status, "progress": own.progress,
            "position": own.position,
        }
        for own in tasks
    ]  # fmt: skip
    columns = ("phase", "state", "attempt", "status", "progress")
    await upsert(connection, task, rows, lambda new: {name: new[name] for name in columns})


def _summary(tasks: Sequence[TaskRow], row: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The strip, the time left, and what failed, as the list of runs shows them."""
    ended = row["state"] in OVER
    failed = failing(tasks)
    summary: dict[str, Any] = {
        "phases": strip(tasks, ended=ended),
        "eta": None if ended else end_of(tasks, slots_of(row), now),
        "failing": failed.task if failed else "",
    }
    if failed and not row["error"]:
        why = str(failed.status.get("error") or "")
        summary["error"] = {"what": f"{failed.task} has failed", "where": "", "why": why, "fix": ""}
    if row["state"] == "failed":
        summary["why"] = str((summary.get("error") or row["error"] or {}).get("why") or row["why"])
    return summary


# -- what a finished task has published


def _finishes(events: Sequence[NewEvent]) -> bool:
    return any(event.data.get("kind") == "task" and event.data.get("status") in DONE for event in events)


async def _folder(control: Control, run_id: str) -> str:
    async with control.database.read() as connection:
        return await connection.scalar(select(run.c.folder).where(run.c.id == run_id)) or ""


def _published(folder: Path, events: Sequence[NewEvent]) -> Published:
    """The artifacts with a manifest that finished tasks have left in the run's folder, where it is on this machine."""
    found: list[tuple[str, str, Manifest]] = []
    for event in events:
        if event.data.get("kind") != "task" or event.data.get("status") not in DONE:
            continue
        for place in (event.data.get("outputs") or {}).values():
            path = folder / str(place) / MANIFEST
            try:
                if path.is_file():
                    found.append((event.task, str(path.parent), decode(path.read_bytes(), str(path))))
            except (ForgeError, OSError) as error:  # the run's own checks say so; it is no model to offer
                log.warning("the manifest of %s is passed over: %s", event.task, error)
    return found


def slots_of(row: Mapping[str, Any]) -> int:
    """How many tasks of a run go on at the same time: what it was given, else what was asked for; 1 where nobody said."""
    given = (row["process"] or {}).get("slots") or (row["request"] or {}).get("slots")
    return int(given or 1)
