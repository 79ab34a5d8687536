"""One run of the pipeline on this machine, from the request to the report: folder, lock, screen and signals."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from components.shared.runtime.errors import ConfigError, InputError

from ..cli import view
from ..ir import reader
from ..ir.parameters import given_parameters, parents_of, starting_points
from ..ir.spec import Pipeline
from ..phases import COMPILED, PARENTS, PHASES, ROUNDS, WORKERS, between
from ..runs.folder import RunFolder, find
from ..settings import as_parameters, check_search, composed, from_parameters, parameter_of
from . import mlflow_run
from .cache import Depot
from .process import Launcher
from .scheduler import Ending, Runner
from .task import Options

REFRESH_SECONDS = 0.5


@dataclass
class Wish:
    """What was asked for. `resume` names a run to go on with; everything that decides results is then that run's.

    :param pipeline: a compiled pipeline; without one, the project's own.
    :param base_models: what cognate makes its variants of.
    :param artifacts: addresses of the models with which `first` starts, in place of the phases before it.
    :param profile: of the settings, which are composed and become parameters of the pipeline; "" for tiny.
    :param overrides: of them.
    :param seed: of everything random; None for that of the files.
    :param parameters: of the pipeline, as texts or values; they win.
    """

    runs: Path
    name: str = ""
    resume: str = ""
    first: str = PHASES[0]
    last: str = PHASES[-1]
    base_models: Sequence[str] = ()
    artifacts: Sequence[str] = ()
    profile: str = ""
    overrides: Sequence[str] = ()
    seed: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    pipeline: Path | None = None
    rounds: int = ROUNDS
    workers: int = WORKERS
    store: str = ""
    slots: int = 0
    cache: bool = True


@dataclass(frozen=True)
class Ended:
    """A run that has come to its end."""

    folder: RunFolder
    ending: Ending


def run(wish: Wish, console: Console) -> Ended:
    """Do it.

    :raises ForgeError: something is wrong with the request itself, before anything was started.
    """
    between(wish.first, wish.last)
    folder, pipeline, parameters = _gone_on_with(wish) if wish.resume else _new(wish)
    before = folder.info() if wish.resume else {}
    store = wish.store or str(before.get("store") or "")
    slots = wish.slots or int(before.get("slots") or 0) or default_slots()
    depot = Depot(folder.path.parent, store)
    if depot.remote:
        depot.store.probe()
    with folder.lock() as lock:
        if not wish.resume:
            folder.pipeline.write_text(pipeline.text)
        folder.write_info(
            name=folder.name,
            started=before.get("started") or time.time(),
            finished=None,
            status="running",
            profile=before.get("profile") or _profile(parameters),
            seed=parameters.get("seed"),
            parameters=parameters,
            store=store,
            slots=slots,
            host=_host(),
        )
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{depot.runs}/mlflow.db"
        options = Options(
            slots=slots,
            resume=bool(wish.resume),
            first=wish.first if wish.resume else PHASES[0],
            last=wish.last,
            cache=wish.cache,
            environment={"MLFLOW_TRACKING_URI": uri},
            inherit=(lock.fileno(),),
        )
        console.print(f"run [bold]{folder.name}[/bold] in {folder.path}", highlight=False)
        if pipeline.ignored:
            console.print(
                f"without meaning on this machine: {', '.join(pipeline.ignored)}",
                style="dim",
                highlight=False,
            )
        ending = asyncio.run(_watched(pipeline, folder, depot, parameters, options, console))
        folder.write_info(status=ending, finished=time.time())
        info = folder.info()
        closing = mlflow_run.start_closing(
            uri, folder.name, ending, {"seconds": info["finished"] - info["started"]}
        )
        _report(folder, console)
        mlflow_run.wait(closing, console.print)
    return Ended(folder, ending)


def _new(wish: Wish) -> tuple[RunFolder, Pipeline, dict[str, Any]]:
    """The folder, the pipeline and the complete parameters of a new run. Nothing is written yet."""
    starting = starting_points(wish.first, wish.base_models, wish.artifacts)
    pipeline = _chosen_pipeline(wish)
    given = {**starting, **_settings(wish, pipeline), **wish.parameters}
    parameters = given_parameters(given, pipeline.root.parameters)
    configs = from_parameters(parameters)
    if wish.pipeline is None:
        check_search(configs, rounds=wish.rounds, workers=wish.workers)
    name = wish.name or f"{time.strftime('%Y%m%d-%H%M%S')}-{_profile(parameters) or pipeline.name}"
    folder = RunFolder((wish.runs / name).resolve())
    if (folder.path / "run.json").exists():
        raise InputError(
            f"there is a run {name!r} already",
            where=str(folder.path),
            fix=f"--resume {name}, or another --name",
        )
    return folder, pipeline, parameters


def _settings(wish: Wish, pipeline: Pipeline) -> dict[str, Any]:
    """The settings that were asked for, as parameters; none where a pipeline of somebody's own has its own defaults."""
    asked = bool(wish.profile or wish.overrides)
    if wish.pipeline is not None and not asked:
        return {} if wish.seed is None else {"seed": wish.seed}
    phases = [phase for phase in PHASES if parameter_of(phase) in pipeline.root.parameters]
    if asked and not phases:
        raise ConfigError("this pipeline has no phases of ours to set", where="--profile, --override")
    return as_parameters(
        composed(phases, profile=wish.profile or "tiny", overrides=wish.overrides, seed=wish.seed)
    )


def _profile(parameters: Mapping[str, Any]) -> str:
    """The profile that all phases were composed from, "" where there is no such one."""
    profiles = {config.profile for config in from_parameters(parameters).values()}
    return profiles.pop() if len(profiles) == 1 else ""


def _chosen_pipeline(wish: Wish) -> Pipeline:
    """The pipeline that was named; else ours as it is committed; else ours compiled for the phase to start with."""
    if wish.pipeline is not None:
        if wish.first != PHASES[0] or wish.artifacts:
            raise ConfigError(
                "a pipeline given by --pipeline starts where it was compiled to start",
                where="--from, --artifact",
                fix="compile it for that range: forge compile --from PHASE -o FILE; its parameters are set by --set",
            )
        return reader.load(wish.pipeline)
    if wish.first != PHASES[0] and not wish.artifacts:
        raise InputError(
            f"phase {wish.first} needs something to start from",
            where=f"--from {wish.first}",
            fix="give --resume RUN (a run that has it), or --artifact with a folder or an s3:// address",
        )
    parents = parents_of(wish.base_models, wish.artifacts)
    shape = (wish.first, parents, wish.workers, wish.rounds)
    if shape == (PHASES[0], PARENTS, WORKERS, ROUNDS):
        return reader.load(COMPILED)
    from ..agent_forge import pipeline, text  # KFP's compiler, which the committed pipeline does without

    made = pipeline(start=wish.first, parents=parents, workers=wish.workers, rounds=wish.rounds, pinned=False)
    return reader.parse(text(made))


def _gone_on_with(wish: Wish) -> tuple[RunFolder, Pipeline, dict[str, Any]]:
    """The folder, the pipeline and the parameters of a run that is there."""
    folder = find(wish.runs, wish.resume)
    asked = [f"{name}={value}" for name, value in wish.parameters.items()]
    reshaped = (wish.rounds, wish.workers) != (ROUNDS, WORKERS)
    asked += [
        f"{name}={value}"
        for name, value in (("profile", wish.profile), ("seed", wish.seed))
        if value not in ("", None)
    ]
    asked += wish.overrides
    if asked or wish.base_models or wish.artifacts or wish.pipeline or reshaped:
        raise ConfigError(
            "a run goes on with what it was started with",
            where=f"--resume {folder.name}",
            why=f"also given: {', '.join([*asked, *wish.base_models, *wish.artifacts]) or 'another pipeline'}",
            fix="start a new run for other settings; what did not change comes from the cache",
        )
    return folder, reader.load(folder.pipeline), dict(folder.info()["parameters"])


async def _watched(
    pipeline: Pipeline,
    folder: RunFolder,
    depot: Depot,
    parameters: Mapping[str, Any],
    options: Options,
    console: Console,
) -> Ending:
    """Run with the table on a terminal, or line by line without one; Ctrl-C stops it in good order."""

    def say(text: str) -> None:
        console.print(Text.assemble((f"{time.strftime('%H:%M:%S')} ", "dim"), text), soft_wrap=True)

    runner = Runner(pipeline, folder, depot, Launcher(options.slots), parameters, options, say)
    loop = asyncio.get_running_loop()

    def asked_to_stop() -> None:
        say(f"stopping: phases have {options.grace:g} s to write their checkpoints (again to kill them)")
        runner.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked_to_stop)
    if not console.is_terminal:
        return await runner.run()
    running = asyncio.create_task(runner.run())
    with Live(view.table(folder, active=True), console=console, auto_refresh=False, transient=True) as live:
        while not running.done():
            await asyncio.wait([running], timeout=REFRESH_SECONDS)
            live.update(view.table(folder, active=True), refresh=True)
    return await running


def _report(folder: RunFolder, console: Console) -> None:
    """The report, its table, and what to do next."""
    from ..report import page, terminal

    written = page.write(folder.path)
    console.print(terminal.table(folder.path))
    console.print(f"report: {written}", highlight=False)


def default_slots() -> int:
    """As many phases at once as there are pairs of cores: a phase computes with two threads. At least three, so that
    cognate's variants train side by side."""
    return max(3, (os.cpu_count() or 2) // 2)


def _host() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
    }
