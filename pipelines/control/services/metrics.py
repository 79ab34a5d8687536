"""What was measured: curves of every task, and how long the phases took.

A curve's name is what its task calls it; of a stage of a running task `<stage>: <name>`, as `forge metrics` shows it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case
from sqlalchemy.ext.asyncio import AsyncConnection

from ..store.tables import execution, metric, metric_name, phase_execution, series
from ..store.upsert import upsert

RESULT = "result"
"""The stage under which a finished task says what it came to."""

LONGEST_NAME = 300


@dataclass(frozen=True)
class Point:
    """One measurement.

    :param time: Unix seconds.
    """

    name: str
    step: float
    value: float
    time: float


def points_of(data: Mapping[str, Any], time: float) -> list[Point]:
    """The points of a `metric` event: {values: {name: number or None}, stage, step}. What is no finite number is none."""
    stage, step = str(data.get("stage") or ""), float(data.get("step") or 0)
    prefix = "" if stage in ("", RESULT) else f"{stage}: "
    return [
        Point(f"{prefix}{name}", step, float(value), time)
        for name, value in data.get("values", {}).items()
        if value is not None and math.isfinite(value)
    ]


async def record_points(
    connection: AsyncConnection, run: str, task: str, phase: str, points: Iterable[Point]
) -> None:
    """Keep points. One of the same run, task, name and step takes the place of the old: an attempt that begins anew.

    Part of the caller's transaction.

    :param run: "" for what was measured outside of any run.
    """
    key = {"run": run, "task": task[:400], "phase": phase[:32]}
    rows = {(point.name[:LONGEST_NAME], point.step): point for point in points}
    await upsert(
        connection,
        metric,
        [
            {**key, "name": name, "step": step, "value": point.value, "time": point.time}
            for (name, step), point in rows.items()
        ],
        lambda new: {"value": new.value, "time": new.time, "phase": new.phase},
    )
    last = {name: point for (name, _), point in sorted(rows.items(), key=lambda row: row[1].time)}
    await upsert(
        connection,
        series,
        [
            {**key, "name": name, "step": point.step, "value": point.value, "time": point.time}
            for name, point in last.items()
        ],
        lambda new: {"step": new.step, "value": new.value, "time": new.time, "phase": new.phase},
        where=lambda new: series.c.time <= new.time,
    )
    await upsert(connection, metric_name, [{"phase": phase[:32], "name": name} for name in last])


async def record_execution(
    connection: AsyncConnection,
    run: str,
    profile: str,
    status: Mapping[str, Any],
) -> None:
    """Keep that an attempt of a task has ended; a second time changes nothing. Part of the caller's transaction.

    :param status: of the task: a `TaskStatus` as plain JSON, `succeeded` or `failed`. What came from the cache, was
        left out or was stopped is no execution.
    """
    if status["status"] not in ("succeeded", "failed"):
        return
    succeeded = status["status"] == "succeeded"
    row = {
        "run": run,
        "task": str(status["task"])[:400],
        "attempt": int(status.get("attempts") or 1),
        "phase": str(status.get("phase") or "")[:32],
        "profile": profile[:64],
        "seconds": float(status.get("seconds") or 0.0),
        "cpu_seconds": float(status.get("cpu_seconds") or 0.0),
        "memory_bytes": int(status.get("peak_memory_bytes") or 0),
        "succeeded": succeeded,
        "exit_code": status.get("exit_code"),
        "finished": float(status.get("finished") or status.get("started") or 0.0),
    }
    if not await upsert(connection, execution, [row]):
        return
    kept = {name: row[name] for column in phase_execution.c if (name := column.name) in row}
    old = phase_execution.c
    await upsert(
        connection,
        phase_execution,
        [{**kept, "failures": 0 if succeeded else 1}],
        lambda new: {
            "profile": new.profile,
            "seconds": old.seconds + new.seconds,
            "cpu_seconds": old.cpu_seconds + new.cpu_seconds,
            "memory_bytes": case(
                (new.memory_bytes > old.memory_bytes, new.memory_bytes), else_=old.memory_bytes
            ),
            "failures": old.failures + new.failures,
            "succeeded": new.succeeded,
            "finished": case((new.finished > old.finished, new.finished), else_=old.finished),
        },
    )
