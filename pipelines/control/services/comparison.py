"""Runs side by side: the last value of every metric, and what the phases claim, with intervals."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from sqlalchemy import select

from components.shared.runtime.errors import ForgeError

from ..cache.key import Key
from ..context import Control
from ..errors import not_found
from ..store.tables import model, run, series
from .manifests import head_of
from .overall import Overall, overall_of

MOST_RUNS = 20
SHOWN = ("score", "low", "high", "n", "chance")
"""What is said of a suite's score; what came of each item is not."""


class Compared(BaseModel):
    """A metric of a task, in each run that has it: its last value.

    :param differs: not all that have it have the same.
    """

    phase: str
    task: str
    metric_name: str
    values: dict[str, float]
    differs: bool


class Claims(BaseModel):
    """What the last model of a phase in a run is said to be.

    :param overall: of its suites, each corrected for guessing; null where it was not scored.
    :param results: of each suite {score, low, high, n, chance}.
    :param claims: each beside its control, with intervals.
    :param unreadable: why there is nothing of it here.
    """

    run: str
    phase: str
    digest: str
    score: float | None
    bytes: int
    parameters: int
    overall: Overall | None = None
    results: dict[str, dict[str, Any]]
    claims: list[dict[str, Any]]
    unreadable: str = ""


class Comparison(BaseModel):
    """Runs side by side; `metrics` are in the order of phase, task and name."""

    runs: list[str]
    metrics: list[Compared]
    models: list[Claims]


async def compare(control: Control, runs: list[str], names: list[str], models: bool) -> Comparison:
    """Runs side by side.

    :param names: of the metrics; none for all.
    :param models: with what their models' manifests say, which have to be read.
    :raises Refused: one of the runs is not there.
    """
    async with control.database.read() as connection:
        rows = await connection.execute(select(run.c.id, run.c.last_seq).where(run.c.id.in_(runs)))
        seen = {row.id: row.last_seq for row in rows}
    for name in runs:
        if name not in seen:
            raise not_found("there is no such run", name[:200], "GET /phases/runs lists them")

    async def compute() -> dict[str, Any]:
        return (await _compare(control, runs, names, models)).model_dump()

    key = Key.of("comparison", [[name, seen[name]] for name in runs], names, models)
    return Comparison(**await control.cache.json(key, compute))


async def _compare(control: Control, runs: list[str], names: list[str], models: bool) -> Comparison:
    columns = series.c
    query = (
        select(columns.run, columns.task, columns.name, columns.phase, columns.value)
        .where(columns.run.in_(runs))
        .order_by(columns.phase, columns.task, columns.name)
    )
    if names:
        query = query.where(columns.name.in_(names))
    values: dict[tuple[str, str, str], dict[str, float]] = {}
    async with control.database.read() as connection:
        for row in await connection.execute(query):
            values.setdefault((row.phase, row.task, row.name), {})[row.run] = row.value
        made = (
            (
                await connection.execute(
                    select(model.c.run, model.c.phase, model.c.digest, model.c.address, model.c.score, model.c.bytes,
                           model.c.parameters)
                    .where(model.c.run.in_(runs), model.c.kind == "model")
                    .order_by(model.c.run, model.c.finished)
                )
            ).all()
            if models
            else []
        )  # fmt: skip
    last = {(row.run, row.phase): row for row in made}  # a phase's last model, such as the champion
    return Comparison(
        runs=runs,
        metrics=[
            Compared(
                phase=phase, task=task, metric_name=name, values=by_run, differs=len(set(by_run.values())) > 1
            )
            for (phase, task, name), by_run in values.items()
        ],
        models=[await _claims(control, row) for row in last.values()],
    )


async def _claims(control: Control, row: Any) -> Claims:
    said = {name: getattr(row, name) for name in ("run", "phase", "digest", "score", "bytes", "parameters")}
    try:
        head = await head_of(control, row.digest, row.address)
    except ForgeError as error:  # removed, or its store is away: the comparison stands without it
        return Claims(**said, results={}, claims=[], unreadable=str(error)[:300])
    results = {
        suite: {name: value for name, value in score.items() if name in SHOWN}
        for suite, score in head["scores"].items()
    }
    claims = head["extra"].get("controls")
    claims = claims if isinstance(claims, list) else []
    return Claims(**said, overall=overall_of(head["scores"]), results=results, claims=claims)
