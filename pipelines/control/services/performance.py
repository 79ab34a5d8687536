"""The report of performance over the control plane's index of runs; what it says is pipelines/analysis/performance.py."""

from __future__ import annotations

from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from pipelines.analysis import performance
from pipelines.analysis.performance import MOST_MODELS, WINDOW, Pace, Report, suite_means

from ..cache.key import Key
from ..context import Control
from ..store.tables import execution, model, model_parent, phase_execution, run


async def report(control: Control) -> Report:
    """The report of all runs that the database knows."""
    async with control.database.read() as connection:
        seen = [
            list(row)
            for table, newest in ((execution, execution.c.finished), (model, model.c.finished))
            for row in await connection.execute(select(func.count(), func.max(newest)).select_from(table))
        ]
        states = dict(
            (row.state, row.count)
            for row in await connection.execute(
                select(run.c.state, func.count().label("count")).group_by(run.c.state).order_by(run.c.state)
            )
        )

    async def compute() -> dict[str, Any]:
        async with control.database.read() as connection:
            return (await _report(connection, states)).model_dump()

    return Report(**await control.cache.json(Key.of("performance", seen, states), compute))


async def paces(connection: AsyncConnection) -> list[Pace]:
    """How long each phase takes, profile by profile."""
    columns = phase_execution.c
    totals = await connection.execute(
        select(
            columns.phase,
            columns.profile,
            func.count().label("executions"),
            func.sum(case((columns.succeeded, 1), else_=0)).label("succeeded"),
            func.sum(columns.failures).label("failures"),
            func.avg(columns.seconds).label("mean"),
            func.max(columns.finished).label("last"),
        )
        .where(columns.phase != "")
        .group_by(columns.phase, columns.profile)
        .order_by(columns.phase, columns.profile)
    )
    return [await _pace(connection, total) for total in totals.all()]


async def _pace(connection: AsyncConnection, total: Any) -> Pace:
    columns = phase_execution.c
    query = select(columns.seconds, columns.cpu_seconds, columns.memory_bytes).where(
        columns.phase == total.phase, columns.profile == total.profile
    )
    first = (await connection.execute(query.order_by(columns.finished).limit(WINDOW))).all()
    newest = (await connection.execute(query.order_by(columns.finished.desc()).limit(WINDOW))).all()
    return performance.pace(
        total.phase,
        total.profile,
        executions=total.executions,
        succeeded=total.succeeded,
        failures=total.failures,
        mean_time=total.mean,
        last=total.last,
        first=first,
        newest=newest,
    )


async def _report(connection: AsyncConnection, states: dict[str, int]) -> Report:
    models, quality = await _models(connection)
    measured, spent = await paces(connection), await _hours(connection)
    return performance.report(measured, states=states, spent=spent, models=models, quality=quality)


async def _models(connection: AsyncConnection) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    columns = model.c
    scored = (columns.kind == "model", columns.score.is_not(None))
    named = (columns.digest, columns.phase, columns.run, columns.score, columns.bytes, columns.parameters)
    best = await connection.execute(
        select(*named).where(*scored).order_by(columns.score.desc(), columns.digest.desc()).limit(MOST_MODELS)
    )
    grouped = await connection.execute(
        select(columns.phase, func.count().label("models"), func.avg(columns.score).label("mean_score"),
               func.max(columns.score).label("best_score"), func.avg(columns.bytes).label("mean_bytes"))
        .where(*scored).group_by(columns.phase).order_by(columns.phase)
    )  # fmt: skip
    gained = await _gained(connection)
    by_phase = {
        row.phase: {**row._mapping, "mean_bytes": float(row.mean_bytes), "gained": gained.get(row.phase)}
        for row in grouped
    }
    quality: dict[str, dict[str, float]] = {}
    for phase in by_phase:
        newest = await connection.scalars(
            select(columns.scores)
            .where(*scored, columns.phase == phase)
            .order_by(columns.finished.desc())
            .limit(WINDOW)
        )
        quality[phase] = suite_means(newest.all())
    return {"best": [dict(row._mapping) for row in best], "phases": by_phase}, quality


async def _gained(connection: AsyncConnection) -> dict[str, float]:
    """By phase how far its models' scores are above those of what they were made from, in the mean."""
    parent, columns = model.alias(), model.c
    before = (
        select(model_parent.c.child, func.avg(parent.c.score).label("score"))
        .join(parent, parent.c.digest == model_parent.c.parent)
        .where(parent.c.score.is_not(None))
        .group_by(model_parent.c.child)
        .subquery()
    )
    rows = await connection.execute(
        select(columns.phase, func.avg(columns.score - before.c.score).label("gained"))
        .join(before, before.c.child == columns.digest)
        .where(columns.kind == "model", columns.score.is_not(None))
        .group_by(columns.phase)
    )
    return {row.phase: row.gained for row in rows}


async def _hours(connection: AsyncConnection) -> dict[str, dict[str, float]]:
    columns = phase_execution.c
    hours = await connection.execute(
        select(columns.phase, (func.sum(columns.seconds) / 3600).label("hours"),
               (func.sum(columns.cpu_seconds) / 3600).label("core_hours"))
        .where(columns.phase != "").group_by(columns.phase).order_by(columns.phase)
    )  # fmt: skip
    return {row.phase: {"hours": row.hours, "core_hours": row.core_hours} for row in hours}
