"""What was measured, and what it comes to. What Prometheus scrapes has an address of its own."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipelines.analysis.performance import Report

from ..auth.guard import right
from ..errors import Refused
from ..services import comparison, curves, performance
from ..services.metrics import LONGEST_NAME, Point, record_points
from .app import Here
from .errors import Problem
from .text import Plain, Time, Word, plain

router = APIRouter(prefix="/metrics", tags=["metrics"])

Words = Annotated[list[Annotated[str, Field(max_length=400), AfterValidator(plain)]], Query(max_length=100)]
From = Annotated[
    float | None, Query(alias="from", ge=0, le=1e11, allow_inf_nan=False, description="Unix seconds")
]


class Measured(BaseModel):
    """A measurement from outside of any run.

    :param timestamp: Unix seconds; left out: now.
    """

    model_config = ConfigDict(extra="forbid")
    phase: Plain = Field(max_length=32)
    metric_name: Plain = Field(min_length=1, max_length=LONGEST_NAME)
    value: float = Field(allow_inf_nan=False)
    timestamp: float | None = Field(None, ge=0, le=1e11, allow_inf_nan=False)


class Recorded(BaseModel):
    """What was kept."""

    phase: str
    metric_name: str
    value: float
    timestamp: float


class Names(BaseModel):
    """The metrics that there are."""

    names: list[curves.Name]


class Aggregates(BaseModel):
    """What metrics come to.

    :param of: all points of the curves that fit, or the last one of each.
    """

    of: Literal["all points", "last points"]
    aggregates: list[curves.Aggregate]


def several(texts: list[str]) -> list[str]:
    """The words of a list that is given by commas, by repetition, or both.

    :raises Refused: there are too many, or one is no text.
    """
    words = list(dict.fromkeys(word.strip() for text in texts for word in text.split(",") if word.strip()))
    if len(words) > 100 or any(len(word) > 400 or not word.isprintable() for word in words):
        raise Refused(422, "this list cannot be read", fix="give up to 100 names, separated by commas")
    return words


@router.get("", dependencies=[right("metrics", "read")])
async def metrics(
    here: Here,
    phase: Word = "",
    metric_name: Words = [],  # noqa: B006 (FastAPI copies it)
    start: From = None,
    to: Time = None,
    run: Words = [],  # noqa: B006
    task: Word = "",
    points: Annotated[int, Query(ge=4, le=curves.MOST)] = 500,
    limit: Annotated[int, Query(ge=1, le=curves.MOST_SERIES)] = 20,
) -> curves.Curves:
    """Curves, the newest first, each thinned so that its lowest and highest points stay."""
    window = curves.Window(start, to, points)
    return await curves.curves(
        here, runs=several(run), phase=phase, task=task, names=metric_name, window=window, limit=limit
    )


@router.post("", dependencies=[right("metrics", "write")], status_code=201)
async def record(here: Here, measured: Measured) -> Recorded:
    """Keep a measurement."""
    at = measured.timestamp if measured.timestamp is not None else time.time()
    async with here.database.write() as connection:
        point = Point(measured.metric_name, at, measured.value, at)
        await record_points(connection, "", "", measured.phase, [point])
    return Recorded(
        phase=measured.phase, metric_name=measured.metric_name, value=measured.value, timestamp=at
    )


@router.get("/names", dependencies=[right("metrics", "read")])
async def names(here: Here, phase: Word = "") -> Names:
    """The metrics that have ever been measured."""
    return Names(names=await curves.names(here.database, phase))


@router.get("/aggregates", dependencies=[right("metrics", "read")])
async def aggregates(
    here: Here,
    phase: Word = "",
    metric_name: Words = [],  # noqa: B006
    start: From = None,
    to: Time = None,
    run: Words = [],  # noqa: B006
    latest: Annotated[
        bool | None,
        Query(description="over the last points of the curves alone; left out: where no run is named"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Aggregates:
    """Mean, least, largest, last and percentiles of each phase's metrics. Runs or names have to be given."""
    runs = several(run)
    if not (runs or metric_name):
        raise Refused(
            422,
            "all points of all metrics are too many",
            where="run, metric_name",
            fix="name one or the other",
        )
    over_last = not runs if latest is None else latest
    found = await curves.aggregates(
        here.database,
        runs=runs,
        phase=phase,
        names=metric_name,
        start=start,
        end=to,
        latest=over_last,
        limit=limit,
    )
    return Aggregates(of="last points" if over_last else "all points", aggregates=found)


@router.get("/report", dependencies=[right("metrics", "read")])
async def report(here: Here) -> Report:
    """How the phases do: times against their baseline, success, memory, scores, and what to do."""
    return await performance.report(here)


@router.get("/compare", dependencies=[right("metrics", "read")], responses={404: {"model": Problem}})
async def compare(
    here: Here,
    runs: Annotated[str, Query(min_length=1, max_length=8000, description="ids, separated by commas")],
    metric_name: Words = [],  # noqa: B006
    models: Annotated[bool, Query(description="with the scores and claims of their models")] = True,
) -> comparison.Comparison:
    """Up to twenty runs side by side."""
    named = several([runs])
    if not 1 <= len(named) <= comparison.MOST_RUNS:
        raise Refused(422, f"{len(named)} runs cannot be compared", where="runs", fix="give 1 to 20")
    return await comparison.compare(here, named, metric_name, models)
