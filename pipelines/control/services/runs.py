"""Runs as the API shows them: the list, page by page without counting, and one run with its tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, and_, func, or_, select

from ...runs.folder import checked_name
from ..auth.rights import Principal
from ..context import Control
from ..errors import not_found
from ..store.tables import principal, run, series, task
from .paging import cursor_of, values_of
from .strip import Row, row_of
from .transitions import AT_WORK, OVER, RunState

PAGE = 50
LARGEST_PAGE = 200

Target = Literal["local", "kubeflow"]


class PhaseOfRun(BaseModel):
    """A phase in the strip of a run.

    :param share: done of it, from 0 to 1.
    :param eta: seconds that its running stage still needs.
    """

    state: str
    share: float = 0.0
    stage: str = ""
    step: float = 0
    total: float = 0
    eta: float | None = None
    attempts: int = 0


class Run(BaseModel):
    """A run, as a row of the list.

    :param version: for If-Match: raised by each change of the state.
    :param why: it waits, is lost, or has failed.
    :param eta: Unix seconds at which it may end.
    :param gpus: that one process of it wants; `memory_bytes` is what all of it may take.
    """

    id: str
    state: RunState
    version: int
    target: str
    origin: str
    owner: str
    owner_name: str = ""
    priority: int = 0
    profile: str = ""
    seed: int | None = None
    phases: dict[str, PhaseOfRun] = {}
    failing: str = ""
    why: str = ""
    error: dict[str, Any] | None = None
    created: float
    started: float | None = None
    finished: float | None = None
    eta: float | None = None
    last_seq: int = 0
    gpus: int = 0
    memory_bytes: int = 0
    pinned: bool = False
    links: dict[str, str] = {}


class TaskOfRun(BaseModel):
    """A task: all that its newest `TaskStatus` says, how far it is, and the last value of each metric."""

    model_config = ConfigDict(extra="allow")

    task: str
    phase: str = ""
    status: str = "pending"
    attempts: int = 0
    progress: dict[str, Any] = {}
    metrics: dict[str, float] = {}


class Action(BaseModel):
    """Whether something can be done with a run by whoever asks; `why` says why not."""

    allowed: bool
    why: str = ""


class RunDetail(Run):
    """One run, whole."""

    tasks: list[TaskOfRun] = []
    request: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    folder: str = ""
    root: str = ""
    holder: str = ""
    actions: dict[str, Action] = {}


class RunPage(BaseModel):
    """Some runs, the newest first.

    :param next: the cursor of the next page; None where there is none.
    """

    runs: list[Run]
    next: str | None = None


class RunFilter(BaseModel):
    """Which runs are listed; several states are separated by commas.

    :param phase: those that are at this phase, or have failed in it.
    :param q: a part of the run's name.
    """

    state: str = ""
    profile: str = ""
    target: str = ""
    owner: str = ""
    phase: str = ""
    q: str = Field("", max_length=200)


async def listed(
    control: Control, which: RunFilter, *, limit: int = PAGE, cursor: str | None = None
) -> RunPage:
    """A page of the list.

    :raises Refused: the cursor is none of ours: 422.
    """
    query = _filtered(_rows(), which).order_by(run.c.created.desc(), run.c.id.desc()).limit(limit + 1)
    if cursor:
        created, name = values_of(cursor, "runs", float, str)
        query = query.where(or_(run.c.created < created, and_(run.c.created == created, run.c.id < name)))
    async with control.database.read() as connection:
        rows = (await connection.execute(query)).mappings().all()
    page = rows[:limit]
    more = cursor_of("runs", page[-1]["created"], page[-1]["id"]) if len(rows) > limit else None
    return RunPage(runs=[shown(control, row) for row in page], next=more)


async def got(control: Control, run_id: str) -> Run:
    """One run, as in the list.

    :raises Refused: there is none: 404.
    """
    return shown(control, await row_of_run(control, run_id))


async def detail(control: Control, run_id: str, who: Principal) -> RunDetail:
    """One run, whole.

    :param who: asks: what they may do is in it.
    :raises Refused: there is none: 404.
    """
    row = await row_of_run(control, run_id)
    async with control.database.read() as connection:
        tasks = (
            (await connection.execute(select(task).where(task.c.run == run_id).order_by(task.c.position)))
            .mappings()
            .all()
        )
        values = await connection.execute(
            select(series.c.task, series.c.name, series.c.value).where(series.c.run == run_id)
        )
        metrics: dict[str, dict[str, float]] = {}
        for name, metric_name, value in values:
            metrics.setdefault(name, {})[metric_name] = value
    return RunDetail(
        **shown(control, row).model_dump(),
        tasks=[_task(known, metrics.get(known["task"], {})) for known in tasks],
        request=row["request"],
        parameters=row["parameters"],
        folder=row["folder"],
        root=row["root"],
        holder=row["holder"],
        actions=actions_of(row, who),
    )


async def newest_of_phase(control: Control, phase: str) -> dict[str, Any] | None:
    """The newest run that has come to a phase, and how the phase is in it; None where none has."""
    state = run.c.phases[phase]["state"].as_string()
    query = (
        select(run.c.id, run.c.state, run.c.phases)
        .where(state.is_not(None), state.not_in(("pending", "left out")))
        .order_by(run.c.created.desc())
        .limit(1)
    )
    async with control.database.read() as connection:
        row = (await connection.execute(query)).first()
    return None if row is None else {"run": row.id, "run_state": row.state, **row.phases[phase]}


async def report_of(control: Control, run_id: str) -> str:
    """The page that a run has written of itself.

    :raises Refused: there is no such run, or it has none here: 404.
    """
    row = await row_of_run(control, run_id)
    path = control.settings.runs.absolute() / checked_name(row["id"]) / "report.html"
    try:
        if path.is_symlink():
            raise FileNotFoundError(path)
        return await asyncio.to_thread(path.read_text, encoding="utf-8")
    except OSError:
        raise not_found(
            "the run has no report here", "report", "it is written when a run of this machine ends"
        ) from None


async def row_of_run(control: Control, run_id: str) -> Row:
    """The row of a run, with its owner's name.

    :raises Refused: there is none: 404.
    """
    async with control.database.read() as connection:
        row: Row | None = (await connection.execute(_rows().where(run.c.id == run_id))).mappings().first()
    if row is None:
        raise not_found("there is no such run", "run", "GET /phases/runs lists them")
    return row


def shown(control: Control, row: Row) -> Run:
    """A row as the API shows it."""
    links = {}
    if row["kfp_id"]:
        links["kfp"] = f"{row['kfp_host'].rstrip('/')}/#/runs/details/{row['kfp_id']}"
    if control.settings.mlflow_url.startswith(("http://", "https://")):
        links["mlflow"] = control.settings.mlflow_url
    fields = {name: row[name] for name in Run.model_fields if name in row}
    return Run(**{**fields, "owner_name": row.get("owner_name") or "", "links": links})


def actions_of(row: Row, who: Principal) -> dict[str, Action]:
    """What whoever asks may do with a run now."""
    state = row["state"]
    over, going = state in OVER, state in ("queued", *AT_WORK)
    possible = {
        "cancel": ("" if going else f"it is {state}", "execute"),
        "resume": (
            "it has succeeded" if state == "succeeded" else "" if over else f"it is {state}",
            "execute",
        ),
        "retry": ("" if state in ("failed", "lost") else f"it is {state}", "execute"),
        "rerun": ("" if over else f"it is {state}: cancel it first", "execute"),
        "delete": (
            "it is pinned" if row["pinned"] else "" if over else f"it is {state}: cancel it first",
            "delete",
        ),
    }
    actions = {}
    for name, (why, right) in possible.items():
        if not who.may("phases", right):  # type: ignore[arg-type] # execute and delete are rights
            why = f"{who.role} may not: ask an operator or an admin"
        elif not who.owns(row["owner"]):
            why = "it is somebody else's run"
        actions[name] = Action(allowed=not why, why=why)
    return actions


def _rows() -> Select[Any]:
    """Runs, with the names of their owners."""
    owned = run.outerjoin(principal, run.c.owner == principal.c.id)
    return select(run, principal.c.name.label("owner_name")).select_from(owned)


def _filtered(query: Select[Any], which: RunFilter) -> Select[Any]:
    if which.state:
        query = query.where(run.c.state.in_([state.strip() for state in which.state.split(",")]))
    for name in ("profile", "target", "owner"):
        if value := getattr(which, name):
            query = query.where(run.c[name] == value)
    if which.phase:
        query = query.where(run.c.phases[which.phase]["state"].as_string().in_(("running", "failed")))
    if which.q:
        query = query.where(func.lower(run.c.id).contains(which.q.lower(), autoescape=True))
    return query


def _task(known: Row, metrics: Mapping[str, float]) -> TaskOfRun:
    own = row_of(known)
    fields = {"task": own.task, "phase": own.phase, "status": own.state, "attempts": own.attempt}
    return TaskOfRun(**{**own.status, **fields, "progress": own.progress, "metrics": dict(metrics)})
