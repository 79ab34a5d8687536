"""The state of the pipeline: how each phase stands in the run that has got there last, and the runs by state."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from sqlalchemy import func, select

from ...phases import PHASES
from ..store.database import Database
from ..store.tables import model, run

NEWEST = 50
"""Runs that are looked at for a phase's last state."""


class PhaseState(BaseModel):
    """How a phase stands.

    :param run: the newest run in which it takes part; empty where none does.
    :param digest: of the newest model that it has made.
    """

    run: str = ""
    state: str = "never run"
    share: float = 0.0
    digest: str = ""
    score: float | None = None


class PipelineState(BaseModel):
    """The whole.

    :param runs: state → how many.
    :param latest: the run that was created last; empty where there is none.
    """

    phases: dict[str, PhaseState]
    runs: dict[str, int]
    latest: str
    profile: str


async def pipeline_state(database: Database) -> PipelineState:
    """How it stands now."""
    async with database.read() as connection:
        counted = await connection.execute(
            select(run.c.state, func.count().label("count")).group_by(run.c.state).order_by(run.c.state)
        )
        counts: dict[str, int] = {row.state: row._mapping["count"] for row in counted}
        newest = (
            await connection.execute(
                select(run.c.id, run.c.phases, run.c.profile)
                .order_by(run.c.created.desc(), run.c.id.desc())
                .limit(NEWEST)
            )
        ).all()
        phases = {}
        for phase in PHASES:
            made = (
                await connection.execute(
                    select(model.c.digest, model.c.score)
                    .where(model.c.phase == phase, model.c.kind == "model")
                    .order_by(model.c.finished.desc())
                    .limit(1)
                )
            ).first()
            phases[phase] = PhaseState(
                **_last(phase, newest),
                digest=made.digest if made is not None else "",
                score=made.score if made is not None else None,
            )
    return PipelineState(
        phases=phases,
        runs=counts,
        latest=newest[0].id if newest else "",
        profile=newest[0].profile if newest else "",
    )


def _last(phase: str, newest: Any) -> dict[str, Any]:
    for row in newest:
        strip = (row.phases or {}).get(phase)
        if strip:
            return {
                "run": row.id,
                "state": str(strip.get("state", "")),
                "share": float(strip.get("share") or 0.0),
            }
    return {}
