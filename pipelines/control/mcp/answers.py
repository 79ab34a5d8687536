"""What the tools answer: a run, a model, a page of them, their logs. All text in them is plain (foreign.py)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from ..services.catalogue import Model
from ..services.runs import Run, RunDetail
from .foreign import cleaned


class RunSummary(BaseModel):
    """A run. `version` is raised by each change of its state."""

    id: str
    state: str
    version: int
    profile: str = ""
    owner: str = ""
    failing: str = Field("", description="the phase that has failed, or is late")
    why: str = Field("", description="why it waits, is lost, or has failed")
    created: float = Field(description="Unix seconds")
    finished: float | None = None
    phases: dict[str, str] = Field({}, description="each phase: its state and how far it is")


class RunList(BaseModel):
    """Some runs, the newest first; `next` is the cursor of the next page."""

    runs: list[RunSummary]
    next: str | None = None


class RunStatus(RunSummary):
    """A run with its tasks, and what may be done with it now."""

    tasks: list[dict[str, Any]] = []
    error: dict[str, Any] | None = None
    may: dict[str, str] = Field({}, description="each action: yes, or why not")
    links: dict[str, str] = {}


class Logs(BaseModel):
    """A part of what a run has written; `after` for the next part is `last`."""

    run: str
    text: str
    last: int
    more: bool


class ModelSummary(BaseModel):
    """A model of the catalogue; its digest is its name."""

    digest: str
    phase: str
    kind: str
    run: str
    variant: str = ""
    score: float | None = None
    scores: dict[str, float] = {}
    parameters: int = 0
    bytes: int = 0
    tags: list[str] = []
    pinned: bool = False


class ModelList(BaseModel):
    """Some models; `next` is the cursor of the next page."""

    models: list[ModelSummary]
    next: str | None = None


class Validity(BaseModel):
    """Whether a run would begin; `issues` is what is wrong: what, where, why, and what to do."""

    is_valid: bool
    issues: list[dict[str, str]] = []


class Plan(BaseModel):
    """What a run would do, what it takes, and what earlier runs have of it already."""

    name: str
    profile: str
    seed: int | None
    tasks: dict[str, str] = Field(description="each task: run, cached, done or left out")
    hours: float | None = None
    memory_bytes: int = 0
    gpus: int = 0
    ignored: list[str] = []


class Change(BaseModel):
    """What a call would do, or has done.

    :param done: whether anything was done. Where not, show `preview` to the person who decides, and call again with the
        same arguments and `confirmation`, once, within five minutes.
    """

    done: bool
    preview: dict[str, Any] = {}
    confirmation: str = ""
    expires_in: int = Field(0, description="seconds")
    run: RunSummary | None = None
    result: dict[str, Any] = {}


def of_run(run: Run) -> RunSummary:
    """A run as the tools say it."""
    return RunSummary(**_of_run(run))


def of_detail(run: RunDetail) -> RunStatus:
    """A run with its tasks."""
    tasks = [
        {
            name: value
            for name, value in task.model_dump().items()
            if name in ("task", "phase", "status", "attempts", "progress", "metrics", "error")
        }
        for task in run.tasks
    ]
    content = {
        "tasks": tasks,
        "error": run.error,
        "may": {name: "yes" if action.allowed else action.why for name, action in run.actions.items()},
        "links": run.links,
    }
    return RunStatus(**_of_run(run), **cleaned(content))


def of_model(model: Model) -> ModelSummary:
    """A model as the tools say it."""
    content = cleaned(model.model_dump())
    return ModelSummary(**{name: content[name] for name in ModelSummary.model_fields if name in content})


def _of_run(run: Run) -> dict[str, Any]:
    phases = {
        name: f"{phase.state} {phase.share:.0%}" if phase.state == "running" else phase.state
        for name, phase in run.phases.items()
    }
    content: dict[str, Any] = {
        **{name: getattr(run, name) for name in ("id", "state", "version", "profile", "failing", "why")},
        "owner": run.owner_name or run.owner,
        "created": run.created,
        "finished": run.finished,
        "phases": phases,
    }
    return dict(cleaned(content))
