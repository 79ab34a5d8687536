"""What goes on: runs, their tasks, the queue, leases, and what the living runs measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..services.leases import LEASE_SECONDS
from ..services.transitions import AT_WORK
from ..store.database import now
from ..store.tables import event, run, series, task

STATES = ("queued", "starting", "running", "cancelling", "succeeded", "failed", "cancelled", "lost")
LINGER_SECONDS = 900.0
"""So long a run is still shown after its end: whoever looks every minute sees its last values."""

MOST_RUNS = 20
MOST_VALUES = 300
"""Of living runs, and of metrics of each: series are not to grow with the years."""

LONGEST_NAME = 100


@dataclass
class LiveRun:
    """A run that goes on, or has just ended.

    :param shares: how much of each phase is done, from 0 to 1.
    :param silence: seconds since its last event; None where it has ended or has none yet.
    :param lease_age: seconds since whoever is at it has said so last; None where nobody has to be.
    :param metrics: the newest value of each, by phase and name.
    :param left_out: metrics for which there was no room.
    """

    id: str
    state: str
    shares: dict[str, float] = field(default_factory=dict)
    silence: float | None = None
    lease_age: float | None = None
    metrics: dict[tuple[str, str], float] = field(default_factory=dict)
    left_out: int = 0


@dataclass(frozen=True)
class Running:
    """What goes on, by the database's clock.

    :param states: how many runs there are of each.
    :param tasks: how many tasks of these runs there are of each state.
    :param waiting: runs in the queue; `waits` for so many seconds the one at its end that waits longest.
    :param lost: runs that were lost in the last day.
    """

    time: float
    states: Mapping[str, int]
    tasks: Mapping[str, int]
    waiting: int
    waits: float
    lost: int
    runs: tuple[LiveRun, ...]


async def read(connection: AsyncConnection) -> Running:
    """What goes on now."""
    time = float(await connection.scalar(select(now())) or 0.0)
    states = {state: count for state, count in await connection.execute(_by(run.c.state))}
    runs = await _runs(connection, time)
    of_these = _by(task.c.state).where(task.c.run.in_(runs))
    tasks = {state: count for state, count in await connection.execute(of_these)}
    oldest = await connection.scalar(select(func.min(run.c.created)).where(run.c.state == "queued"))
    lost = await connection.scalar(
        select(func.count()).where(run.c.state == "lost", run.c.finished > time - 86400.0)
    )
    return Running(
        time,
        {state: states.get(state, 0) for state in STATES},
        tasks,
        states.get("queued", 0),
        max(0.0, time - oldest) if oldest else 0.0,
        lost or 0,
        tuple(runs.values()),
    )


async def _runs(connection: AsyncConnection, time: float) -> dict[str, LiveRun]:
    column, last = run.c, event.alias()
    statement = (
        select(column.id, column.state, column.phases, column.holder, column.lease_until, last.c.time)
        .outerjoin(last, and_(last.c.run == column.id, last.c.seq == column.last_seq))
        .where(or_(column.state.in_(AT_WORK), column.finished > time - LINGER_SECONDS))
        .order_by(case((column.state.in_(AT_WORK), 0), else_=1), column.created.desc())
        .limit(MOST_RUNS)
    )
    runs = {
        name: LiveRun(
            name,
            state,
            {phase: float(strip.get("share") or 0.0) for phase, strip in (phases or {}).items()},
            max(0.0, time - heard) if state == "running" and heard else None,
            max(0.0, time - (lease - LEASE_SECONDS)) if state in AT_WORK and holder else None,
        )
        for name, state, phases, holder, lease, heard in await connection.execute(statement)
    }
    await _measured(connection, runs)
    return runs


def _by(column: ColumnElement[str]) -> Select[str, int]:
    return select(column, func.count()).group_by(column)


async def _measured(connection: AsyncConnection, runs: Mapping[str, LiveRun]) -> None:
    """Put the newest values into the runs: of several tasks of a phase that measure the same, the last that did."""
    column = series.c
    statement = (
        select(column.run, column.phase, column.name, column.value)
        .where(column.run.in_(runs))
        .order_by(column.time.desc())
    )
    room = dict.fromkeys(runs, MOST_VALUES)
    for name, phase, metric, value in await connection.execute(statement):
        run_, key = runs[name], (phase, metric[:LONGEST_NAME])
        if key in run_.metrics or not math.isfinite(value):
            continue
        if room[name]:
            room[name] -= 1
            run_.metrics[key] = value
        else:
            run_.left_out += 1
