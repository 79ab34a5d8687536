"""The phases and the runs of them: asked for, listed, looked at, stopped, gone on with."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import AfterValidator, BaseModel, Field

from components.shared.runtime.errors import ForgeError, InputError

from ...phases import PHASES, SPECS
from ...runs.folder import NAME_BYTES
from ..auth.guard import Asker, right
from ..errors import Refused, not_found
from ..services import actions, deletion, overview, runs, submission
from ..services.comparison import MOST_RUNS
from ..services.deletion import Deleted
from ..services.overview import QueuedRun
from ..services.planning import Asked, PhaseName, PlanOfRun, Text, planned
from ..services.runs import LARGEST_PAGE, PAGE, Run, RunDetail, RunFilter, RunPage
from ..services.settings_compared import RunsCompared, compared
from ..services.transitions import RunState
from .app import Here
from .controller import elsewhere, from_controller, text_from_controller
from .text import Cursor, Plain, plain

router = APIRouter(prefix="/phases", tags=["phases"])

LOOK, DO = right("phases", "read"), right("phases", "execute")

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A report has its own style and pictures in it, and nothing that runs."""

_STATE = "|".join(get_args(RunState))
STATES = f"^(({_STATE})(,({_STATE}))*)?$"
"""One state of a run, or several with commas between them."""

RunName = Annotated[
    str, Path(min_length=1, max_length=NAME_BYTES, description="the name of a run"), AfterValidator(plain)
]
Version = Annotated[str | None, Header(alias="If-Match", max_length=40)]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=submission.LONGEST_KEY)]


class PhaseInfo(BaseModel):
    """A phase, and the newest run that has come to it.

    :param takes: base models, models, or one model.
    :param latest: the run, and how the phase is in it; None where none has come to it.
    """

    name: str
    summary: str
    after: str
    takes: str
    gpu: bool
    latest: dict[str, Any] | None = None


class Accepted(BaseModel):
    """A run that was taken."""

    run_id: str
    state: str
    version: int


class OfPhase(BaseModel):
    """A run of one phase.

    :param input_model: what it starts with: digests or addresses; none for the first phase.
    """

    input_model: list[Plain] = Field([], max_length=16)
    profile: Plain = Field("", max_length=64)
    seed: int | None = Field(None, ge=0, lt=1 << 63)
    overrides: list[Text] = Field([], max_length=500)
    target: str = Field("local", pattern="^(local|kubeflow)$")
    priority: int = Field(0, ge=-10, le=10)


class Queue(BaseModel):
    """What waits, the next one first."""

    runs: list[QueuedRun]


class From(BaseModel):
    """Where a run begins again."""

    phase: PhaseName


class Pin(BaseModel):
    """Whether a run is kept."""

    pinned: bool = True


@router.get("", dependencies=[LOOK])
async def phases(here: Here) -> list[PhaseInfo]:
    """The phases, in the order in which they run."""
    return [await _info(here, name) for name in PHASES]


@router.get("/runs", dependencies=[LOOK])
async def listed(
    here: Here,
    state: Annotated[str, Query(max_length=200, pattern=STATES)] = "",
    profile: Annotated[Plain, Query(max_length=64)] = "",
    target: Annotated[Plain, Query(max_length=16)] = "",
    owner: Annotated[Plain, Query(max_length=64)] = "",
    phase: Annotated[str, Query(max_length=32, pattern="^[a-z]*$")] = "",
    q: Annotated[Plain, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = PAGE,
    cursor: Cursor | None = None,
) -> RunPage:
    """Runs, the newest first, page by page."""
    which = RunFilter(state=state, profile=profile, target=target, owner=owner, phase=phase, q=q)
    return await runs.listed(here, which, limit=limit, cursor=cursor)


@router.get("/queue", dependencies=[LOOK])
async def queue(here: Here) -> Queue:
    """What waits, and for what."""
    return Queue(runs=await overview.queued(here))


@router.get("/compare", dependencies=[LOOK])
async def compare(
    here: Here,
    runs: Annotated[Plain, Query(min_length=1, max_length=8000, description="ids, separated by commas")],
) -> RunsCompared:
    """Up to twenty runs side by side: metrics, settings that differ, claims with their intervals."""
    names = list(dict.fromkeys(name.strip() for name in runs.split(",") if name.strip()))
    if not 1 <= len(names) <= MOST_RUNS:
        raise Refused(422, f"{len(names)} runs cannot be compared", where="runs", fix="give 1 to 20")
    return await compared(here, names)


@router.get("/runs/{run_id}", dependencies=[LOOK])
async def run(here: Here, who: Asker, run_id: RunName, response: Response) -> RunDetail:
    """One run, whole. Its version is the ETag."""
    found = await runs.detail(here, run_id, who)
    response.headers["ETag"] = f'"{found.version}"'
    return found


@router.post("/execute", status_code=202, dependencies=[DO], responses={200: {"model": PlanOfRun}})
async def execute(
    here: Here, who: Asker, asked: Asked, request: Request, response: Response, key: Key = ""
) -> Accepted | PlanOfRun:
    """Ask for a run. With `dry_run` nothing is begun, and the answer is the plan."""
    if asked.dry_run:
        response.status_code = 200
    if elsewhere(here):
        content = await from_controller(here, request, asked.model_dump())
        return PlanOfRun(**content) if asked.dry_run else Accepted(**content)
    if asked.dry_run:
        return await planned(here, asked)
    return _accepted(await submission.submitted(here, who, asked, key), response)


@router.post("/runs/{run_id}/cancel", status_code=202, dependencies=[DO])
async def cancel(here: Here, who: Asker, run_id: RunName, response: Response, version: Version = None) -> Run:
    """Stop a run; its phases write their checkpoints. A second time, with its version then, they are killed."""
    return _shown(await actions.cancelled(here, who, run_id, _version(version)), response)


@router.post("/runs/{run_id}/resume", status_code=202, dependencies=[DO])
async def resume(
    here: Here, who: Asker, run_id: RunName, request: Request, response: Response, version: Version = None
) -> Run:
    """Go on with a run that has ended before it was done."""
    if elsewhere(here):
        return _shown(Run(**await from_controller(here, request, {})), response)
    states = ("failed", "cancelled", "lost")
    return _shown(await actions.resumed(here, who, run_id, _version(version), only=states), response)


@router.post("/runs/{run_id}/retry", status_code=202, dependencies=[DO])
async def retry(
    here: Here, who: Asker, run_id: RunName, request: Request, response: Response, version: Version = None
) -> Run:
    """Try again what has failed."""
    if elsewhere(here):
        return _shown(Run(**await from_controller(here, request, {})), response)
    states = ("failed", "lost")
    return _shown(await actions.resumed(here, who, run_id, _version(version), only=states), response)


@router.post("/runs/{run_id}/rerun", status_code=202, dependencies=[DO])
async def rerun(
    here: Here,
    who: Asker,
    run_id: RunName,
    begin: From,
    request: Request,
    response: Response,
    version: Version = None,
) -> Run:
    """Run a phase again, and all behind it."""
    if elsewhere(here):
        return _shown(Run(**await from_controller(here, request, begin.model_dump())), response)
    again = await actions.resumed(here, who, run_id, _version(version), first=begin.phase)
    return _shown(again, response)


@router.put("/runs/{run_id}/pin", dependencies=[DO])
async def pin(here: Here, who: Asker, run_id: RunName, wish: Pin, response: Response) -> Run:
    """Keep a run from being cleaned up, or take that back."""
    return _shown(await actions.pinned(here, who, run_id, pin=wish.pinned), response)


@router.delete("/runs/{run_id}", dependencies=[right("phases", "delete")])
async def delete(
    here: Here, who: Asker, run_id: RunName, request: Request, version: Version = None
) -> Deleted:
    """Delete a run that has ended: its folder, its events, its models in the catalogue.

    Not while something refers to it. Artifacts that it has put into a store stay there.
    """
    if elsewhere(here):
        return Deleted(**await from_controller(here, request))
    return await deletion.deleted(here, who, run_id, _version(version))


@router.get(
    "/runs/{run_id}/report",
    dependencies=[LOOK],
    responses={200: {"content": {"text/html": {}}}},
)
async def report(here: Here, run_id: RunName, request: Request) -> HTMLResponse:
    """The page that the run has written of itself."""
    away = elsewhere(here)
    text = await (text_from_controller(here, request) if away else runs.report_of(here, run_id))
    return HTMLResponse(text, headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/{phase}", dependencies=[LOOK])
async def phase(here: Here, phase: str) -> PhaseInfo:
    """One phase."""
    if phase not in SPECS:
        raise not_found("there is no such phase", "phase", f"they are {', '.join(PHASES)}")
    return await _info(here, phase)


@router.post("/{phase}/execute", status_code=202, dependencies=[DO])
async def execute_phase(
    here: Here,
    who: Asker,
    phase: PhaseName,
    of: OfPhase,
    request: Request,
    response: Response,
    key: Key = "",
) -> Accepted:
    """Run one phase, with a model that is there."""
    if elsewhere(here):
        return Accepted(**await from_controller(here, request, of.model_dump()))
    return _accepted(await submission.submitted(here, who, _alone(phase, of), key), response)


class Validity(BaseModel):
    """Whether a phase would begin.

    :param issues: what is wrong, {what, where, why, fix}.
    """

    is_valid: bool
    issues: list[dict[str, str]] = []


@router.post("/{phase}/validate", dependencies=[DO])
async def validate_phase(here: Here, phase: PhaseName, of: OfPhase, request: Request) -> Validity:
    """Whether the phase would begin with this model and these settings. Nothing is begun."""
    if elsewhere(here):
        return Validity(**await from_controller(here, request, of.model_dump()))
    try:
        await planned(here, _alone(phase, of))
    except ForgeError as error:
        issue = {"what": error.what, "where": error.where, "why": error.why, "fix": error.fix}
        return Validity(is_valid=False, issues=[issue])
    return Validity(is_valid=True)


def _alone(phase: PhaseName, of: OfPhase) -> Asked:
    given = {"base_models": of.input_model} if phase == PHASES[0] else {"artifacts": of.input_model}
    content = of.model_dump(exclude={"input_model"})
    return Asked(start_phase=phase, end_phase=phase, **given, **content)


async def _info(here: Here, name: str) -> PhaseInfo:
    spec = SPECS[name]
    newest = await runs.newest_of_phase(here, name)
    return PhaseInfo(
        name=name, summary=spec.summary, after=spec.after, takes=spec.takes, gpu=spec.gpu, latest=newest
    )


def _accepted(taken: Run, response: Response) -> Accepted:
    response.headers["ETag"] = f'"{taken.version}"'
    response.headers["Location"] = f"/phases/runs/{taken.id}"
    return Accepted(run_id=taken.id, state=taken.state, version=taken.version)


def _shown(changed: Run, response: Response) -> Run:
    response.headers["ETag"] = f'"{changed.version}"'
    return changed


def _version(header: str | None) -> int | None:
    """The version that If-Match names; None for any.

    :raises InputError: it names none.
    """
    text = (header or "*").strip().removeprefix("W/").strip('"')
    if text == "*":
        return None
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    raise InputError("this is no version of a run", where="If-Match", fix="give the run's ETag")
