"""`forge run-pipeline` and `forge phase`: the phases on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from components.shared.runtime.errors import Interrupted, PhaseFailed

from ...phases import PHASES, ROUNDS, WORKERS, between
from ..options import (
    Artifacts,
    BaseModels,
    First,
    Last,
    Overrides,
    Parameters,
    Rounds,
    Runs,
    Store,
    Workers,
    console,
    say,
)


def run_pipeline(
    *,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", help="tiny (default), small or full.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random (default 0).")] = None,
    override: Overrides,
    base_model: BaseModels,
    parameter: Parameters,
    first: First = PHASES[0],
    last: Last = PHASES[-1],
    artifact: Artifacts,
    resume: Annotated[str, typer.Option(metavar="RUN", help="Go on with this run (or latest).")] = "",
    name: Annotated[str, typer.Option(help="The run's name (default: the time).")] = "",
    runs: Runs = Path("runs"),
    store: Store = "",
    slots: Annotated[
        int, typer.Option(help="Phases at the same time (default: one for two cores, at least three).")
    ] = 0,
    rounds: Rounds = ROUNDS,
    workers: Workers = WORKERS,
    pipeline: Annotated[Path | None, typer.Option(help="A compiled pipeline in place of our own.")] = None,
    cache: Annotated[bool, typer.Option(help="Take what an earlier run has made of the same.")] = True,
) -> None:
    """Run the phases on this machine, one process each.

    \b
    forge run-pipeline
    forge run-pipeline --profile small --seed 7 -O bitnet.threads=4 -O evomerge.generations=8
    forge run-pipeline --to bitnet      # later: forge run-pipeline --resume latest
    forge run-pipeline --from training --artifact runs/demo/artifacts/bitnet/model
    forge run-pipeline --base-model ./my-model --base-model standard
    forge run-pipeline --store s3://forge/runs

    Ctrl-C lets the phases write their checkpoints; --resume goes on from there. A finished phase does not run again as
    long as its inputs, its settings and its code stay what they were.
    """
    from ...ir.parameters import settings
    from ...local.run import Wish, run

    ended = run(
        Wish(
            runs=runs, name=name, resume=resume, first=first, last=last, base_models=base_model, artifacts=artifact,
            pipeline=pipeline, profile=profile or "", overrides=override, seed=seed, parameters=settings(parameter),
            rounds=rounds, workers=workers, store=store, slots=slots, cache=cache,
        ),
        console,
    )  # fmt: skip
    for status in ended.folder.tasks():
        if status.status == "failed":
            say(f"failed: {status.task}: {status.error}\n        {ended.folder.task(status.task).log}")
    if ended.ending != "succeeded":
        say(f"go on with: forge run-pipeline --resume {ended.folder.path}")
        raise typer.Exit((Interrupted if ended.ending == "interrupted" else PhaseFailed).exit_code)


def phase(context: typer.Context, name: Annotated[str, typer.Argument(help="One of the eight.")]) -> None:
    """Run one phase by hand; `forge phase NAME --help` lists its options.

    \b
    forge phase quietstar --input runs/demo/artifacts/evomerge/model --output /tmp/thinker
    forge phase cognate --step trunk --output /tmp/trunk
    """
    from components.shared.runtime.code import ROOT

    if name in ("--help", "-h"):
        typer.echo(context.get_help())
        return
    between(name, name)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    arguments = [sys.executable, "-m", f"components.{name}", *context.args]
    os.execve(sys.executable, arguments, {**os.environ, "PYTHONPATH": path})
