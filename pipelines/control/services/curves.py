"""Curves out of the database: which there are, their points, thinned, and what they come to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Row, Select, and_, case, false, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..cache.key import Key
from ..context import Control
from ..store.database import Database
from ..store.tables import metric, metric_name, series

MOST = 2000
"""Points that are shown of a curve."""

MOST_SERIES = 100
MOST_POINTS = 400_000
"""Points that are read of a curve; of a longer one its beginning is cut off, and the answer says so."""
MOST_CURVES = 1000
"""Curves of a metric whose last points are put together."""
MOST_NAMES = 100
"""Metrics over which the newest curves are looked for."""
SHORT = 10_000
"""Points of all curves together that one query reads."""

PERCENTILES = (5, 25, 50, 75, 95)


class Series(BaseModel):
    """A curve.

    :param steps: as many as there are values and times.
    :param count: so many points it has; fewer are shown where it was thinned.
    :param cut: it is longer than what is read of one: its beginning is not here.
    """

    run: str
    task: str
    phase: str
    metric_name: str
    steps: list[float]
    values: list[float]
    times: list[float]
    count: int
    cut: bool = False


class Curves(BaseModel):
    """Curves, the newest first; `more` where there are others that fit."""

    series: list[Series]
    more: bool = False


class Aggregate(BaseModel):
    """What a metric comes to, over all points that fit.

    :param percentiles: {"5": …}, each a value that was measured (nearest rank).
    """

    phase: str
    metric_name: str
    count: int
    mean: float
    min: float
    max: float
    last: float
    last_time: float
    percentiles: dict[str, float]


class Name(BaseModel):
    """A metric that a phase measures."""

    phase: str
    metric_name: str


@dataclass(frozen=True)
class Window:
    """What is wanted of each curve: times, and how many points at most."""

    start: float | None
    end: float | None
    points: int

    def of(self, query: Select[Any]) -> Select[Any]:
        """A query of points, for these times alone."""
        if self.start is not None:
            query = query.where(metric.c.time >= self.start)
        return query if self.end is None else query.where(metric.c.time <= self.end)


async def curves(
    control: Control, *, runs: list[str], phase: str, task: str, names: list[str], window: Window, limit: int
) -> Curves:
    """The curves that fit, those with the newest point first.

    :param limit: curves at most.
    """
    wanted = [column == value for column, value in ((series.c.phase, phase), (series.c.task, task)) if value]
    if runs:
        wanted.append(series.c.run.in_(runs))
    if names:
        wanted.append(series.c.name.in_(names))
    if window.start is not None:
        wanted.append(series.c.time >= window.start)
    query = select(series).where(*wanted).order_by(series.c.time.desc()).limit(limit + 1)
    async with control.database.read() as connection:
        if not runs and (phase or names):
            query = await _newest(connection, phase, names, wanted, limit + 1)
        found = (await connection.execute(query)).all()
        drawn = await _short(connection, found[:limit], window)
    if drawn is None:
        drawn = [await _long(control, row, window) for row in found[:limit]]
    return Curves(series=[curve for curve in drawn if curve.count], more=len(found) > limit)


async def _newest(
    connection: AsyncConnection,
    phase: str,
    names: list[str],
    wanted: Sequence[ColumnElement[bool]],
    limit: int,
) -> Select[Any]:
    """The newest curves over all runs: of each metric so many, by the index that has them in order."""
    query = select(metric_name).order_by(metric_name.c.phase, metric_name.c.name).limit(MOST_NAMES)
    if phase:
        query = query.where(metric_name.c.phase == phase)
    if names:
        query = query.where(metric_name.c.name.in_(names))
    columns = series.c
    each = [
        select(series)
        .where(columns.phase == named.phase, columns.name == named.name, *wanted)
        .order_by(columns.time.desc())
        .limit(limit)
        .subquery()
        for named in (await connection.execute(query)).all()
    ]
    if not each:
        return select(series).where(false())
    every = union_all(*(select(newest) for newest in each)).subquery()
    return select(every).order_by(every.c.time.desc()).limit(limit)


async def _short(
    connection: AsyncConnection, found: Sequence[Row[Any]], window: Window
) -> list[Series] | None:
    """All curves by one query; None where they have more points together than one query should read."""
    if not found:
        return []
    columns = metric.c
    each = [and_(columns.run == row.run, columns.task == row.task, columns.name == row.name) for row in found]
    query = window.of(
        select(columns.run, columns.task, columns.name, columns.step, columns.value, columns.time)
    )
    rows = (await connection.execute(query.where(or_(*each)).limit(SHORT + 1))).all()
    if len(rows) > SHORT:
        return None
    points: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {}
    for run, task, name, *point in rows:
        points.setdefault((run, task, name), []).append((point[0], point[1], point[2]))
    return [
        _series(row, sorted(points.get((row.run, row.task, row.name), [])), window.points) for row in found
    ]


async def _long(control: Control, row: Row[Any], window: Window) -> Series:
    """One curve, however long: kept by the caches until it has another point."""

    async def compute() -> dict[str, Any]:
        columns = metric.c
        query = (
            select(columns.step, columns.value, columns.time)
            .where(columns.run == row.run, columns.task == row.task, columns.name == row.name)
            .order_by(columns.step.desc())
            .limit(MOST_POINTS + 1)
        )
        async with control.database.read() as connection:
            rows = (await connection.execute(window.of(query))).all()
        return (await asyncio.to_thread(_series, row, rows[::-1], window.points)).model_dump()

    key = Key.of(
        "curve", [row.run, row.task, row.name, row.step, row.time], [window.start, window.end, window.points]
    )
    return Series(**await control.cache.json(key, compute))


def _series(row: Row[Any], rows: Sequence[Any], points: int) -> Series:
    """A curve of points (step, value, time) by ascending steps."""
    import numpy as np  # 10 MB that a process without a question about curves does without

    from .thinning import thinned

    cut = len(rows) > MOST_POINTS
    rows = rows[1:] if cut else rows
    columns = [np.array(column, dtype=float) for column in zip(*rows, strict=True)] or [np.empty(0)] * 3
    chosen = thinned(columns[0], columns[1], points)
    steps, values, times = (column[chosen].tolist() for column in columns)
    return Series(
        run=row.run, task=row.task, phase=row.phase, metric_name=row.name, steps=steps, values=values, times=times,
        count=len(rows), cut=cut,
    )  # fmt: skip


async def names(database: Database, phase: str) -> list[Name]:
    """The metrics that have been measured, by phase and name."""
    query = select(metric_name).order_by(metric_name.c.phase, metric_name.c.name)
    if phase:
        query = query.where(metric_name.c.phase == phase)
    async with database.read() as connection:
        return [Name(phase=row.phase, metric_name=row.name) for row in await connection.execute(query)]


async def aggregates(
    database: Database,
    *,
    runs: list[str],
    phase: str,
    names: list[str],
    start: float | None,
    end: float | None,
    latest: bool,
    limit: int,
) -> list[Aggregate]:
    """What the metrics that fit come to, each phase and name for itself.

    :param latest: over the last point of each curve, and not over all points: of each metric the newest thousand curves.
    """
    if latest:
        return await _of_last_points(database, runs, phase, names, (start, end), limit)
    table = metric
    wanted: list[ColumnElement[bool]] = []
    if runs:
        wanted.append(table.c.run.in_(runs))
    if phase:
        wanted.append(table.c.phase == phase)
    if names:
        wanted.append(table.c.name.in_(names))
        if not (runs or phase):  # the index begins with the phase
            known = select(metric_name.c.phase).where(metric_name.c.name.in_(names))
            wanted.append(table.c.phase.in_(known))
    if start is not None:
        wanted.append(table.c.time >= start)
    if end is not None:
        wanted.append(table.c.time <= end)
    async with database.read() as connection:
        rows = (await connection.execute(_aggregated(table, wanted, limit))).all()
    return [
        Aggregate(
            phase=row.phase,
            metric_name=row.name,
            count=row.count,
            mean=row.mean,
            min=row.min,
            max=row.max,
            last=row.last,
            last_time=row.last_time,
            percentiles={str(share): getattr(row, f"p{share}") for share in PERCENTILES},
        )
        for row in rows
    ]


async def _of_last_points(
    database: Database,
    runs: list[str],
    phase: str,
    names: list[str],
    times: tuple[float | None, float | None],
    limit: int,
) -> list[Aggregate]:
    """The same over the last points of curves, each metric by the index that has its curves in order."""
    columns = series.c
    wanted: list[ColumnElement[bool]] = [columns.run.in_(runs)] if runs else []
    wanted += [columns.time >= times[0]] if times[0] is not None else []
    wanted += [columns.time <= times[1]] if times[1] is not None else []
    query = select(metric_name).order_by(metric_name.c.phase, metric_name.c.name).limit(limit)
    if phase:
        query = query.where(metric_name.c.phase == phase)
    if names:
        query = query.where(metric_name.c.name.in_(names))
    found = []
    async with database.read() as connection:
        for named in (await connection.execute(query)).all():
            last = (
                select(columns.value, columns.time)
                .where(columns.phase == named.phase, columns.name == named.name, *wanted)
                .order_by(columns.time.desc())
                .limit(MOST_CURVES)
            )
            rows = (await connection.execute(last)).all()
            if rows:
                values = sorted(row.value for row in rows)
                count = len(values)
                ranks = {str(share): values[-(-count * share // 100) - 1] for share in PERCENTILES}
                found.append(
                    Aggregate(
                        phase=named.phase, metric_name=named.name, count=count, mean=sum(values) / count, min=values[0],
                        max=values[-1], last=rows[0].value, last_time=rows[0].time, percentiles=ranks,
                    )
                )  # fmt: skip
    return found


def _aggregated(table: Any, wanted: list[ColumnElement[bool]], limit: int) -> Select[Any]:
    """One row a phase and name; a percentile is the value of the nearest rank, as neither database need compute it."""
    group = (table.c.phase, table.c.name)
    ranked = (
        select(
            *group,
            table.c.value,
            table.c.time,
            func.row_number().over(partition_by=group, order_by=table.c.value).label("rank"),
            func.row_number()
            .over(partition_by=group, order_by=(table.c.time.desc(), table.c.step.desc()))
            .label("age"),
            func.count().over(partition_by=group).label("total"),
        )
        .where(*wanted)
        .subquery()
    )
    columns = ranked.c
    return (
        select(
            columns.phase,
            columns.name,
            func.count().label("count"),
            func.avg(columns.value).label("mean"),
            func.min(columns.value).label("min"),
            func.max(columns.value).label("max"),
            func.max(case((columns.age == 1, columns.value))).label("last"),
            func.max(columns.time).label("last_time"),
            *(
                func.max(case((columns.rank == (columns.total * share + 99) // 100, columns.value))).label(
                    f"p{share}"
                )
                for share in PERCENTILES
            ),
        )
        .group_by(columns.phase, columns.name)
        .order_by(columns.phase, columns.name)
        .limit(limit)
    )
