"""Curves out of the database: which there are, their points, thinned, and what they come to."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from pydantic import BaseModel
from sqlalchemy import ColumnElement, Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..store.database import Database
from ..store.tables import metric, metric_name, series
from .thinning import thinned

MOST_SERIES = 100
MOST_POINTS = 400_000
"""Points that one question reads; more are cut off at the older end, and the answer says so."""

PERCENTILES = (5, 25, 50, 75, 95)


class Series(BaseModel):
    """A curve.

    :param steps: as many as there are values and times.
    :param count: so many points it has; fewer are shown where it was thinned.
    :param cut: it has more than one question reads: its beginning is not here.
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


async def curves(
    database: Database,
    *,
    runs: list[str],
    phase: str,
    task: str,
    names: list[str],
    start: float | None,
    end: float | None,
    points: int,
    limit: int,
) -> Curves:
    """The curves that fit, those with the newest point first.

    :param points: of each at most.
    :param limit: curves at most.
    """
    query = select(series).order_by(series.c.time.desc()).limit(limit + 1)
    for column, wanted in ((series.c.phase, phase), (series.c.task, task)):
        if wanted:
            query = query.where(column == wanted)
    if runs:
        query = query.where(series.c.run.in_(runs))
    if names:
        query = query.where(series.c.name.in_(names))
    if start is not None:
        query = query.where(series.c.time >= start)
    async with database.read() as connection:
        found = (await connection.execute(query)).all()
        left = MOST_POINTS
        drawn = []
        for row in found[:limit]:
            curve = await _curve(connection, row, start, end, points, left)
            left -= min(curve.count, left)
            if curve.count:
                drawn.append(curve)
    return Curves(series=drawn, more=len(found) > limit)


async def _curve(
    connection: AsyncConnection, row: Any, start: float | None, end: float | None, points: int, most: int
) -> Series:
    query = (
        select(metric.c.step, metric.c.value, metric.c.time)
        .where(metric.c.run == row.run, metric.c.task == row.task, metric.c.name == row.name)
        .order_by(metric.c.step.desc())
        .limit(most + 1)
    )
    if start is not None:
        query = query.where(metric.c.time >= start)
    if end is not None:
        query = query.where(metric.c.time <= end)
    rows = [tuple(found) for found in (await connection.execute(query)).all()]
    cut = len(rows) > most

    def thin() -> list[list[float]]:
        table = np.array(rows[:most], dtype=float).reshape(-1, 3)[::-1]
        chosen = thinned(table[:, 0], table[:, 1], points)
        columns: list[list[float]] = table[chosen].T.tolist()
        return columns

    columns = await asyncio.to_thread(thin) if len(rows) > points else _columns(rows)
    steps, values, times = columns or [[], [], []]
    return Series(
        run=row.run, task=row.task, phase=row.phase, metric_name=row.name, steps=steps, values=values, times=times,
        count=len(rows[:most]), cut=cut,
    )  # fmt: skip


def _columns(rows: list[tuple[float, ...]]) -> list[list[float]]:
    return [list(column) for column in zip(*reversed(rows), strict=True)]


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

    :param latest: over the last point of each curve, and not over all points.
    """
    table = series if latest else metric
    wanted: list[ColumnElement[bool]] = []
    if runs:
        wanted.append(table.c.run.in_(runs))
    if phase:
        wanted.append(table.c.phase == phase)
    if names:
        wanted.append(table.c.name.in_(names))
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
