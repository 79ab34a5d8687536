"""From a request to a plan: everything is checked before anything is started or written."""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import itertools
import os
import platform
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from components.shared.preflight.estimate import PhaseCost, refuse_what_cannot_fit
from components.shared.runtime import machine
from components.shared.runtime.errors import ConfigError, InputError

from .. import texts
from ..costs import costs_of, this_machine
from ..ir import reader
from ..ir.base_models import planned, standing
from ..ir.parameters import given_parameters, starting_points
from ..ir.spec import Pipeline
from ..phases import COMPILED, PARENTS, PHASES, ROUNDS, WORKERS, between, remaining, several
from ..runs.folder import RunFolder, RunStatus, checked_name, find
from ..settings import as_parameters, check_search, composed, from_parameters, parameter_of
from .cache import ArtifactCache
from .forecast import forecast, seconds_of
from .options import RunOptions
from .plan import Plan, RunRequest
from .resources import default_slots

T = TypeVar("T")


def prepare(request: RunRequest) -> Plan:
    """Check a request, compose its settings once, and say what will run, what will not, and for how long.

    :returns: the plan; nothing is written or started.
    :raises ForgeError: something is wrong with the request.
    """
    remaining(between(request.first, request.last), request.without)
    if request.slots < 0:
        raise ConfigError(
            f"{request.slots} slots", where="--slots", fix="give one or more, or 0 for as many as fit"
        )
    folder, pipeline, status = _resumed(request) if request.resume else _new(request)
    status.store = request.store or status.store
    costs = _costs(request, status)
    status.slots = (
        request.slots
        or status.slots
        or default_slots(folder.path.parent, status.profile, largest=max((c.host for c in costs), default=0))
    )
    status.experiment = request.experiment or status.experiment
    status.cache = request.cache and status.cache
    cache = ArtifactCache(folder.path.parent, status.store)
    tracking = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{cache.runs}/mlflow.db"
    experiment = {"MLFLOW_EXPERIMENT_NAME": status.experiment} if status.experiment else {}
    options = RunOptions(
        slots=status.slots,
        resume=bool(request.resume),
        first=request.first if request.resume else PHASES[0],
        last=request.last,
        cache=status.cache,
        environment={"MLFLOW_TRACKING_URI": tracking, **experiment, **request.environment},
        grace=request.grace,
    )
    tasks = _now(forecast(pipeline, folder, cache, status, options))
    running = {task.phase for task in tasks if task.fate == "run"}
    taken = tuple(cost for cost in costs if cost.phase in running)
    refuse_what_cannot_fit(taken, this_machine())
    return Plan(request, folder, pipeline, status, options, tasks, seconds_of(tasks, options.slots), taken)


def _costs(request: RunRequest, status: RunStatus) -> list[PhaseCost]:
    """What the phases take; nothing of a run that goes on: it was looked at when it began."""
    if request.resume:
        return []
    models = request.base_models if request.first == PHASES[0] else request.artifacts
    return costs_of(models, from_parameters(status.parameters), this_machine())


def _new(request: RunRequest) -> tuple[RunFolder, Pipeline, RunStatus]:
    """The folder, the pipeline and the status of a new run, with its complete parameters."""
    if request.name:
        checked_name(request.name)
    starting = starting_points(request.first, planned(request.base_models), request.artifacts)
    if request.base_dtype:
        starting["base_dtype"] = request.base_dtype
    pipeline = _pipeline(request)
    values = {**starting, **_settings(request, pipeline), **request.parameters}
    parameters = given_parameters(values, pipeline.root.parameters)
    configs = from_parameters(parameters)
    parameters = texts.found(parameters)
    if request.pipeline is None:
        check_search(configs, rounds=request.rounds, workers=request.workers)
    profiles = {config.profile for config in configs.values()}
    profile = profiles.pop() if len(profiles) == 1 else ""
    name = request.name or _free_name(request.runs, profile or pipeline.name)
    folder = RunFolder((request.runs / name).resolve())
    if folder.exists():
        raise InputError(
            f"there is a run {name!r} already",
            where=str(folder.path),
            fix=f"--resume {name}, or another --name",
        )
    seed = parameters.get("seed")
    return folder, pipeline, RunStatus(name, profile=profile, seed=seed, parameters=parameters)


def _free_name(runs: Path, kind: str) -> str:
    """The time, the kind of run, and a number where two begin in the same second."""
    base = f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}"
    numbered = (f"{base}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([base], numbered) if not (runs / name).exists())


def _settings(request: RunRequest, pipeline: Pipeline) -> dict[str, Any]:
    """The settings that were asked for, composed once, as parameters of the pipeline.

    A pipeline of somebody's own keeps its defaults where none are asked for.

    :raises ConfigError: they do not compose.
    """
    asked = bool(request.profile or request.overrides)
    if request.pipeline is not None and not asked:
        return {} if request.seed is None else {"seed": request.seed}
    phases = [phase for phase in PHASES if parameter_of(phase) in pipeline.root.parameters]
    if asked and not phases:
        raise ConfigError(
            "this pipeline has no phases of ours to set",
            where="--profile, --override",
            fix="leave them out; --set key=value sets a parameter of its own",
        )
    return as_parameters(
        composed(phases, profile=request.profile or "tiny", overrides=request.overrides, seed=request.seed)
    )


def _pipeline(request: RunRequest) -> Pipeline:
    """The pipeline that was named; else ours as it is committed; else ours compiled for the phase to start with."""
    if request.pipeline is not None:
        if request.first != PHASES[0] or request.artifacts or request.without:
            raise ConfigError(
                "a pipeline given by --pipeline has the phases that it was compiled for",
                where="--from, --artifact, phases that are left out",
                fix="compile it for that range: forge compile --from PHASE -o FILE; its parameters are set by --set",
            )
        return reader.load(request.pipeline)
    if request.first != PHASES[0] and not request.artifacts:
        raise InputError(
            f"phase {request.first} needs something to start from",
            where=f"--from {request.first}",
            fix="give --resume RUN (a run that has it), or --artifact with a folder or an s3:// address",
        )
    without = [phase for phase in request.without if phase in between(request.first, request.last)]
    alone = any(map(several, without)) and not request.base_models and not request.artifacts
    merged = any(map(several, remaining(between(request.first), without)))
    stands = (0,) if alone else standing(request.base_models, merged=merged)
    parents = len(request.artifacts) or len(stands)
    shape = (request.first, parents, request.workers, request.rounds)
    if shape == (PHASES[0], PARENTS, WORKERS, ROUNDS) and not without and not any(stands):
        return reader.load(COMPILED)
    compiled = _compiled(request.first, tuple(without), parents, stands, request.workers, request.rounds)
    return reader.parse(compiled)


@functools.lru_cache(maxsize=8)
def _compiled(
    first: str, without: tuple[str, ...], parents: int, stands: tuple[int, ...], workers: int, rounds: int
) -> str:
    """Our pipeline for another range or shape. A process that plans many runs compiles each shape once."""
    from ..agent_forge import pipeline, text  # KFP's compiler, which the committed pipeline does without

    graph = pipeline(
        start=first, without=without, parents=parents, stands=stands, workers=workers, rounds=rounds, pinned=False
    )  # fmt: skip
    return text(graph)


def _resumed(request: RunRequest) -> tuple[RunFolder, Pipeline, RunStatus]:
    """The folder, the pipeline and the status of a run that is there."""
    folder = find(request.runs, request.resume)
    named = {**request.parameters, "profile": request.profile or None, "seed": request.seed}
    asked = [f"{name}={value}" for name, value in named.items() if value is not None]
    asked += [*request.overrides, *(f"without {phase}" for phase in request.without)]
    reshaped = (request.rounds, request.workers) != (ROUNDS, WORKERS)
    if asked or request.base_models or request.artifacts or request.pipeline or reshaped:
        others = ", ".join([*asked, *request.base_models, *request.artifacts])
        raise ConfigError(
            "a run goes on with what it was started with",
            where=f"--resume {folder.name}",
            why=f"also given: {others or 'another pipeline'}",
            fix="start a new run for other settings; what did not change comes from the cache",
        )
    return folder, reader.load(folder.pipeline), folder.read()


def host() -> dict[str, Any]:
    """This machine, as run.json describes it: of its cores and memory what can be used here."""
    return {
        "name": platform.node(),
        "cores": machine.cores(),
        "memory_bytes": machine.memory().limit,
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
    }


def _now(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, also where an event loop is running in this thread: a notebook's, a server's."""
    result: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]
