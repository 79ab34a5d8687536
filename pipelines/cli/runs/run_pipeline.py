"""`forge run-pipeline`: the phases on this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from components.shared.runtime.errors import Interrupted, PhaseFailed

from ...phases import PHASES, ROUNDS, WORKERS
from ..options import (
    Artifacts,
    AsJson,
    BaseDtype,
    BaseModels,
    First,
    Last,
    Overrides,
    Parameters,
    Rounds,
    Store,
    Trust,
    Workers,
    console,
    say,
)

if TYPE_CHECKING:
    from ...control.companions.following import Following
    from ...local.execute import RunResult
    from ...local.plan import Plan
    from ..rendering.live import LiveRun


def run_pipeline(
    *,
    profile: Annotated[
        str | None,
        typer.Option("--profile", "-p", help="tiny (default), small, full, hf-small …: docs/profiles.md."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random (default 0).")] = None,
    override: Overrides,
    base_model: BaseModels,
    base_dtype: BaseDtype = "",
    trust: Trust = "",
    parameter: Parameters,
    first: First = PHASES[0],
    last: Last = PHASES[-1],
    artifact: Artifacts,
    without: Annotated[
        list[str],
        typer.Option(
            metavar="PHASE",
            default_factory=list,
            show_default=False,
            help="Leave this phase out: the model before it goes on as it is; repeatable.",
        ),
    ],
    resume: Annotated[str, typer.Option(metavar="RUN", help="Go on with this run (or latest).")] = "",
    name: Annotated[str, typer.Option(help="The run's name (default: the time).")] = "",
    runs: Annotated[
        Path, typer.Option("--runs", "--output-dir", metavar="DIR", help="The folder of all runs.")
    ] = Path("runs"),
    store: Store = "",
    slots: Annotated[
        int, typer.Option(help="Phases at the same time (default: what free cores and memory are good for).")
    ] = 0,
    rounds: Rounds = ROUNDS,
    workers: Workers = WORKERS,
    pipeline: Annotated[Path | None, typer.Option(help="A compiled pipeline in place of our own.")] = None,
    cache: Annotated[bool, typer.Option(help="Take what an earlier run has made of the same.")] = True,
    register_as: Annotated[
        str, typer.Option(metavar="NAME", help="The last phase's model gets this name in MLflow's registry.")
    ] = "",
    evomerge: Annotated[
        bool | None,
        typer.Option(
            "--enable-evomerge/--no-evomerge",
            show_default=False,
            help="Merge the base models (the default); without, the one base model goes on as it is.",
        ),
    ] = None,
    compression: Annotated[
        bool | None,
        typer.Option(
            "--enable-compression/--no-compression",
            show_default=False,
            help="Compress the agent (the default); without, what the phase before has made is the agent.",
        ),
    ] = None,
    generations: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of evomerge: -O evomerge.generations=N.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Options and settings, JSON or YAML (forge validate); options here win."
        ),
    ] = None,
    experiment: Annotated[str, typer.Option(help="MLflow's experiment (default: agent-forge).")] = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan: what runs, what the cache has, how long it takes."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the phases on this machine, one process each.

    \b
    forge run-pipeline
    forge run-pipeline --profile small --seed 7 -O bitnet.threads=4 -O evomerge.generations=8
    forge run-pipeline --to bitnet      # later: forge run-pipeline --resume latest
    forge run-pipeline --from training --artifact runs/demo/artifacts/bitnet/model
    forge run-pipeline --base-models ./my-model standard --generations 8 --no-compression
    forge run-pipeline --base-model ./my-model --no-evomerge --output-dir ./complete_output
    forge run-pipeline --base-model Qwen/Qwen2.5-0.5B-Instruct@main --base-dtype bfloat16
    forge run-pipeline --without bitnet --without baking
    forge run-pipeline --config run.yaml --seed 7
    forge run-pipeline --store s3://forge/runs
    forge run-pipeline --dry-run --json

    Ctrl-C lets the phases write their checkpoints; --resume goes on from there. A finished phase does not run again as
    long as its inputs, its settings and its code stay what they were.
    """
    from ...api import request
    from ...ir.parameters import settings
    from ...local.prepare import prepare
    from ...request_file import merged

    options = dict(
        runs=runs, name=name, resume=resume, first=first, last=last, base_models=base_model, base_dtype=base_dtype,
        environment={"FORGE_TRUST": trust} if trust else {}, artifacts=artifact,
        pipeline=pipeline, profile=profile, overrides=override, seed=seed, parameters=settings(parameter),
        without=without, rounds=rounds, workers=workers, store=store, slots=slots, cache=cache, register_as=register_as,
        experiment=experiment, generations=generations, enabled={"evomerge": evomerge, "compression": compression},
    )  # fmt: skip
    plan = prepare(request(**merged(config, options)))
    if dry_run:
        _show(plan, as_json=as_json)
        return
    if not as_json:
        say(f"run {plan.folder.name} in {plan.folder.path}")
        if plan.ignored:
            say(f"without meaning on this machine: {', '.join(plan.ignored)}")
        from ..rendering.plan import said_of

        for line in said_of(plan):
            say(line)
    result = _carried_out(plan, quiet=as_json)
    for task in result.state.tasks:
        if task.state == "failed" and not as_json:
            say(f"failed: {task.name}: {task.why}\n        {result.folder.task(task.name).log}")
    if result.ending != "succeeded":
        if not as_json:
            say(f"go on with: forge run-pipeline --resume {result.folder.path}")
        raise typer.Exit((Interrupted if result.ending == "interrupted" else PhaseFailed).exit_code)


def _show(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        say(json.dumps(plan.to_json(), indent=1))
        return
    from ..rendering.plan import table

    console.print(table(plan))


def _carried_out(plan: Plan, *, quiet: bool) -> RunResult:
    """The run, with a table on a terminal, or line by line without one; Ctrl-C stops it in good order."""
    import asyncio

    from ...api import conclude
    from ...control.companions import companions_of
    from ..rendering.live import LiveRun
    from ..rendering.report import table

    companions = companions_of(plan, lambda text: print(text, file=sys.stderr))
    if companions is not None:
        companions.recall()
    if quiet:
        result = asyncio.run(_run(plan, None, companions))
        report = conclude(plan, result, lambda text: None)
        if companions is not None:
            companions.conclude(result, report)
        say(json.dumps(result.state.to_json(), indent=1))
        return result
    with LiveRun(console) as screen:
        result = asyncio.run(_run(plan, screen, companions))
    report = conclude(plan, result, say)
    if companions is not None:
        companions.conclude(result, report)
    console.print(table(result.folder.path))
    say(f"report: {report}")
    return result


async def _run(plan: Plan, screen: LiveRun | None, companions: Following | None) -> RunResult:
    import asyncio

    from ...local.execute import start

    run = start(plan, [listener for listener in (screen, companions) if listener is not None])
    stops = 0

    def stop() -> None:
        nonlocal stops
        stops += 1
        if stops > 2:  # phases are killed; what is left is a store or a disk that does not answer
            if screen:
                screen.__exit__()
            os._exit(Interrupted.exit_code)
        if screen:
            grace = plan.options.grace
            screen.say(f"stopping: phases have {grace:g} s to write their checkpoints (again to kill them)")
        run.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return await run.wait()
