"""From what is asked for to a plan: what `prepare` finds wrong, and what the run would take of the machine.

A place that a model is read from is one of ours: a digest of the catalogue, a folder among the runs, an address in the
store that is set; or a base model's name on the hub, which anybody may read. A server that opened whatever it is told would
read for others what only it may read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import select

from components.shared.base_models.address import HUB_NAME
from components.shared.runtime.errors import ConfigError

from ...phases import PHASES, SPECS
from ..auth.places import allowed_place
from ..context import Control
from ..errors import Refused, not_found
from ..settings import ControlSettings
from ..store.tables import model
from .profiles import builtin, expanded
from .strip import TaskRow

PhaseName = Literal["cognate", "evomerge", "quietstar", "bitnet", "training", "baking", "adas", "compression"]


def text_of(text: str) -> str:
    """The text, where both databases can keep it: without NUL, in whole characters.

    :raises ValueError: they cannot.
    """
    if "\x00" in text:
        raise ValueError("text without NUL")
    text.encode()  # a lone surrogate is a ValueError, too
    return text


Text = Annotated[str, Field(max_length=10_000), AfterValidator(text_of)]

DIGEST = re.compile(r"[0-9a-f]{64}")
VARIANTS = ("standard", "memory", "reasoning")


class Asked(BaseModel):
    """A run that is asked for. What is left out is as the profile says.

    :param without: phases between the two that are left out.
    :param overrides: of settings, `phase.key=value`.
    :param base_models: standard, memory, reasoning, or a model: a digest, an address, a name of the hub.
    :param artifacts: what `start_phase` starts with in place of the phases before it: digests or addresses.
    :param resume: a run to go on with: it keeps its settings.
    :param priority: the higher the sooner, among all that wait.
    :param slots: tasks at the same time; 0 for as many as the machine is good for.
    :param cache: take what an earlier run has made of the same.
    :param dry_run: only say what would be done.
    """

    model_config = ConfigDict(extra="forbid")

    start_phase: PhaseName = "cognate"
    end_phase: PhaseName = "compression"
    without: list[PhaseName] = Field([], max_length=8)
    profile: Text = Field("", max_length=64)
    seed: int | None = Field(None, ge=0, lt=1 << 63)
    overrides: list[Text] = Field([], max_length=500)
    base_models: list[Text] = Field([], max_length=16)
    artifacts: list[Text] = Field([], max_length=16)
    resume: Text | None = Field(None, max_length=200)
    name: Text = Field("", max_length=200)
    target: Literal["local", "kubeflow"] = "local"
    priority: int = Field(0, ge=-10, le=10)
    slots: int = Field(0, ge=0, le=256)
    cache: bool = True
    dry_run: bool = False


class PlanOfTask(BaseModel):
    """A task of a plan.

    :param fate: run, cached, done, or left out.
    :param seconds: that it took in an earlier run; None where none is known.
    """

    name: str
    phase: str
    component: str
    fate: str
    seconds: float | None = None
    depends_on: list[str] = []


class Cost(BaseModel):
    """What a run takes, as far as earlier runs tell; None where they do not."""

    hours: float | None = None
    core_hours: float | None = None
    gpu_hours: float | None = None


class PlanOfRun(BaseModel):
    """What a run would do.

    :param seconds: that it may take; None where no earlier run tells.
    :param memory_bytes: that all its tasks at one time may take, by the peaks of earlier runs, else by the model's
        shape.
    :param gpus: that one process of it wants.
    :param resources: of each phase: tasks, threads, memory (measured and expected), GPU memory, disk, hours, pods.
    """

    name: str
    profile: str
    seed: int | None = None
    parameters: dict[str, Any] = {}
    resume: bool = False
    slots: int
    store: str = ""
    seconds: float | None = None
    memory_bytes: int = 0
    gpus: int = 0
    cost: Cost = Cost()
    tasks: list[PlanOfTask] = []
    resources: dict[str, Any] = {}
    ignored: list[str] = []


async def planned(control: Control, asked: Asked) -> PlanOfRun:
    """The plan of a run, with everything that is asked for checked.

    :raises ForgeError: something is wrong with it.
    """
    if asked.target == "kubeflow":
        _for_kubeflow(control.settings, asked)
    asked = await asyncio.to_thread(settled, control.settings, asked)
    places = {
        "base_models": [
            text if _of_the_hub(text) else await _place(control, text) for text in asked.base_models
        ],
        "artifacts": [await _place(control, text) for text in asked.artifacts],
    }
    return await asyncio.to_thread(plan_of, control.settings, asked.model_copy(update=places))


def settled(settings: ControlSettings, asked: Asked) -> Asked:
    """The same run, asked for with a profile of the project where it was asked for with one that somebody keeps.

    :raises ConfigError: there is no such profile.
    """
    if not asked.profile or asked.profile in builtin():
        return asked
    try:
        profile, overrides = expanded(settings, asked.profile, asked.overrides)
    except Refused as error:
        raise ConfigError(f"there is no profile {asked.profile!r}", where="profile", fix=error.fix) from None
    return asked.model_copy(update={"profile": profile, "overrides": overrides})


def _for_kubeflow(settings: ControlSettings, asked: Asked) -> None:
    """Check what only Kubeflow Pipelines asks for.

    :raises ConfigError: there is no server, or it could not run this.
    """
    if not settings.kfp_host:
        raise ConfigError(
            "no Kubeflow Pipelines server is set", where="KFP_HOST",
            fix="set it for the controller, or run on this machine",
        )  # fmt: skip
    if asked.without:
        fix = "leave it out, or run on this machine"
        raise ConfigError("Kubeflow runs all phases of a range", where="without", fix=fix)


def plan_of(settings: ControlSettings, asked: Asked) -> PlanOfRun:
    """The same, of places that are known to be ours. It reads the runs folder: not for an event loop."""
    from ...cluster import load
    from ...local.prepare import prepare
    from ...local.resources import TASK_MEMORY, resources

    plan = prepare(run_request(settings, asked.model_dump()))
    needs = resources(plan, load())
    of_phases = [
        (phase.peak_memory_bytes or phase.expected_memory_bytes or TASK_MEMORY)
        * min(phase.tasks, needs.slots)
        for phase in needs.phases.values()
    ]
    gpus = int(any(SPECS[phase].gpu for phase in needs.phases if phase in SPECS))
    content = plan.to_json()
    return PlanOfRun(
        **{name: content[name] for name in ("name", "profile", "seed", "parameters", "resume", "slots")},
        store=plan.status.store,
        seconds=plan.seconds,
        memory_bytes=max(of_phases, default=0),
        gpus=gpus,
        cost=_cost(plan.tasks, plan.seconds, {name: phase.threads for name, phase in needs.phases.items()}),
        tasks=[PlanOfTask(**task) for task in content["tasks"]],
        resources=needs.to_json(),
        ignored=content["ignored"],
    )


def run_request(settings: ControlSettings, request: Mapping[str, Any], *, name: str = "") -> Any:
    """What `prepare` takes.

    :param request: an `Asked` as plain JSON, its places ours.
    :param name: of the run, where it has been given one.
    """
    from ...local.plan import RunRequest

    common = {
        "runs": settings.runs.absolute(),
        "first": request["start_phase"],
        "last": request["end_phase"],
        "slots": request["slots"],
        "cache": request["cache"],
        "store": settings.store,
    }
    if request["resume"]:
        return RunRequest(**common, resume=request["resume"])
    return RunRequest(
        **common,
        name=name or request["name"],
        without=request["without"],
        base_models=request["base_models"],
        artifacts=request["artifacts"],
        profile=request["profile"],
        overrides=request["overrides"],
        seed=request["seed"],
    )


def tasks_of(plan: PlanOfRun) -> list[TaskRow]:
    """The tasks of a plan as the database has tasks, before the run has begun."""
    states = {"cached": "pending", "done": "succeeded", "run": "pending"}
    return [
        TaskRow(
            planned.name, planned.phase, states[planned.fate], position=position,
            status={"depends_on": planned.depends_on, "component": planned.component},
            progress={} if planned.seconds is None else {"expected": planned.seconds},
        )
        for position, planned in enumerate(plan.tasks)
        if planned.fate in states
    ]  # fmt: skip


def row_for(run_id: str, own: TaskRow) -> dict[str, Any]:
    """A task as a row of the table."""
    return {"run": run_id, **asdict(own)}


def _of_the_hub(text: str) -> bool:
    """Whether it can mean a model of the hub and nothing else: what lies on this machine is asked for by its place."""
    return HUB_NAME.fullmatch(text.partition("@")[0]) is not None and not Path(text).exists()


async def _place(control: Control, text: str) -> str:
    """Where a model is read from.

    :raises Refused: it is none of ours.
    """
    if text in VARIANTS:
        return text
    digest = text.removeprefix("sha256:")
    if DIGEST.fullmatch(digest):
        async with control.database.read() as connection:
            address = await connection.scalar(select(model.c.address).where(model.c.digest == digest))
        if not address:
            raise not_found("the catalogue has no such model", digest, "GET /models lists them")
        text = str(address)
    return allowed_place(control.settings, text)


def _cost(tasks: Sequence[Any], seconds: float | None, threads: Mapping[str, int]) -> Cost:
    known = [task for task in tasks if task.fate == "run" and task.phase]
    if seconds is None or any(task.seconds is None for task in known):
        return Cost()
    core = sum(task.seconds * threads.get(task.phase, 1) for task in known)
    gpu = sum(task.seconds for task in known if task.phase in SPECS and SPECS[task.phase].gpu)
    return Cost(
        hours=round(seconds / 3600, 4), core_hours=round(core / 3600, 4), gpu_hours=round(gpu / 3600, 4)
    )


assert PhaseName.__args__ == PHASES  # type: ignore[attr-defined] # a Literal cannot be made of a list
