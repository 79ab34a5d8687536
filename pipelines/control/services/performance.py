"""The report of performance: how long the phases take, what the models are worth, and what to do about it.

A phase's execution is what its tasks add up to in one run. Its baseline is the mean of its first ten; it has degraded where
there are more than ten and the mean of the last ten is over 1.5 times that. Profiles are told apart: a small run is no
baseline for a full one.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..cache.key import Key
from ..context import Control
from ..store.tables import execution, model, phase_execution, run
from .degradation import DEGRADED, WINDOW, degraded

GIB = 2**30
FULL = 0.8
"""Of the machine's memory: from there on a task may be killed."""
MOST_MODELS = 10


class Pace(BaseModel):
    """How long a phase takes in runs of one profile.

    :param baseline_time: the mean of its first ten executions, in seconds; `recent_time` is that of its last ten.
    :param success_rate: of its executions; `failures` counts attempts of tasks.
    :param memory_bytes: the most that one of its last ten needed.
    """

    phase: str
    profile: str
    executions: int
    success_rate: float
    failures: int
    mean_time: float
    baseline_time: float
    recent_time: float
    degraded: bool
    memory_bytes: int
    cores: float
    last: float


class PhasePerformance(BaseModel):
    """How a phase does, over all profiles; `paces` tells them apart."""

    executions: int
    success_rate: float
    degraded: bool
    paces: list[Pace]


class Report(BaseModel):
    """The report.

    :param phase_performance: by phase.
    :param model_performance: the best models, and the mean and best score of each phase's.
    :param resource_utilization: memory, cores and hours by phase, and the runs by state.
    :param quality_metrics: mean score by suite of the newest models of each phase.
    :param recommendations: what to do, in words; empty where there is nothing.
    """

    phase_performance: dict[str, PhasePerformance]
    model_performance: dict[str, Any]
    resource_utilization: dict[str, Any]
    quality_metrics: dict[str, dict[str, float]]
    recommendations: list[str]
    summary: str


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
    baseline, recent = _mean([row.seconds for row in first]), _mean([row.seconds for row in newest])
    seconds = sum(row.seconds for row in newest)
    return Pace(
        phase=total.phase,
        profile=total.profile,
        executions=total.executions,
        success_rate=total.succeeded / total.executions,
        failures=total.failures,
        mean_time=total.mean,
        baseline_time=baseline,
        recent_time=recent,
        degraded=degraded(total.executions, baseline, recent),
        memory_bytes=max(row.memory_bytes for row in newest),
        cores=sum(row.cpu_seconds for row in newest) / seconds if seconds else 0.0,
        last=total.last,
    )


async def _report(connection: AsyncConnection, states: dict[str, int]) -> Report:
    measured = await paces(connection)
    phases: dict[str, PhasePerformance] = {}
    for phase in dict.fromkeys(pace.phase for pace in measured):
        own = [pace for pace in measured if pace.phase == phase]
        executions = sum(pace.executions for pace in own)
        phases[phase] = PhasePerformance(
            executions=executions,
            success_rate=sum(pace.success_rate * pace.executions for pace in own) / executions,
            degraded=any(pace.degraded for pace in own),
            paces=own,
        )
    models, quality = await _models(connection)
    resources = await _resources(connection, measured, states)
    advice = _advice(measured, resources, models)
    slower = sorted({pace.phase for pace in measured if pace.degraded})
    summary = (
        f"{sum(states.values())} runs, {sum(pace.executions for pace in measured)} executions of phases; "
        f"degraded: {', '.join(slower) or 'none'}; {len(advice)} recommendations"
    )
    return Report(
        phase_performance=phases, model_performance=models, resource_utilization=resources, quality_metrics=quality,
        recommendations=advice, summary=summary,
    )  # fmt: skip


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
    by_phase = {row.phase: {**row._mapping, "mean_bytes": float(row.mean_bytes)} for row in grouped}
    quality: dict[str, dict[str, float]] = {}
    for phase in by_phase:
        newest = await connection.scalars(
            select(columns.scores)
            .where(*scored, columns.phase == phase)
            .order_by(columns.finished.desc())
            .limit(WINDOW)
        )
        scores = newest.all()
        suites = sorted({suite for score in scores for suite in score})
        quality[phase] = {
            suite: _mean([score[suite] for score in scores if suite in score]) for suite in suites
        }
    return {"best": [dict(row._mapping) for row in best], "phases": by_phase}, quality


async def _resources(
    connection: AsyncConnection, measured: list[Pace], states: dict[str, int]
) -> dict[str, Any]:
    from components.shared.runtime import machine

    columns = phase_execution.c
    hours = await connection.execute(
        select(columns.phase, (func.sum(columns.seconds) / 3600).label("hours"),
               (func.sum(columns.cpu_seconds) / 3600).label("core_hours"))
        .where(columns.phase != "").group_by(columns.phase).order_by(columns.phase)
    )  # fmt: skip
    spent = {row.phase: {"hours": row.hours, "core_hours": row.core_hours} for row in hours}
    for phase, said in spent.items():
        own = [pace for pace in measured if pace.phase == phase]
        said["peak_memory_bytes"] = max(pace.memory_bytes for pace in own)
        said["cores"] = max(pace.cores for pace in own)
    memory = machine.memory()
    return {
        "phases": spent,
        "runs": states,
        "machine": {"cores": machine.cores(), "memory_bytes": memory.limit, "free_memory_bytes": memory.free},
    }


def _advice(measured: list[Pace], resources: dict[str, Any], models: dict[str, Any]) -> list[str]:
    advice = []
    total = resources["machine"]["memory_bytes"]
    for pace in measured:
        name = f"{pace.phase} ({pace.profile or 'no profile'})"
        if pace.degraded:
            advice.append(
                f"{name} takes {pace.recent_time / pace.baseline_time:.1f} times as long as it did at first "
                f"({pace.recent_time:.0f} s against {pace.baseline_time:.0f} s; the alert is at {DEGRADED}): look what "
                "has changed in its settings, its data or its machine"
            )
        if pace.executions >= 5 and pace.success_rate < 0.9:
            advice.append(
                f"{name} fails in {1 - pace.success_rate:.0%} of its runs: read the errors of the last ones"
            )
        if total and pace.memory_bytes > FULL * total:
            advice.append(
                f"{name} needs {pace.memory_bytes / GIB:.1f} GiB of {total / GIB:.1f}: fewer tasks at once, or more memory"
            )
    phases = models["phases"]
    if {"bitnet", "compression"} <= set(phases):
        lost = phases["bitnet"]["mean_score"] - phases["compression"]["mean_score"]
        if lost > 0.05:
            advice.append(
                f"compression costs {lost:.2f} of the mean score: ask for more bytes or a higher retention"
            )
    return advice


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
