"""`forge evo`: an evolutionary merge of models at hand, without a pipeline: phase evomerge in one process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def evo(
    *,
    model: Annotated[
        list[str],
        typer.Option(
            "--model", "-m", metavar="MODEL", help="A model to merge: folder or s3://…; twice or more."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Where the merged model goes.")],
    base: Annotated[
        str, typer.Option(help="What the models were trained from (default: the trunk that they carry).")
    ] = "",
    generations: Annotated[int, typer.Option(min=0, help="Of each island.")] = 50,
    population: Annotated[int, typer.Option(min=2, help="Members of each island.")] = 8,
    islands: Annotated[int, typer.Option(min=1, help="Searches that pass each other their best.")] = 1,
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="tiny, small, full, hf-small …: docs/profiles.md.")
    ] = "tiny",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    override: Annotated[
        list[str],
        typer.Option(
            "--override",
            "-O",
            metavar="KEY=VALUE",
            default_factory=list,
            show_default=False,
            help="Change a setting, such as evomerge.items=64; repeatable.",
        ),
    ],
) -> None:
    """Merge models by evolution: it searches over merge methods and their weights, layer by layer.

    \b
    forge evo --model ./coder --model ./writer --base ./base --output ./both
    forge evo -m A -m B -m C --generations 50 --population 8 --output D -O evomerge.items=64

    Killed and started again it goes on from where it was. The card of the merged model holds its recipe, forge.json the
    whole search, its controls and its Pareto front.
    """
    from ...local.cache_key import ROOT

    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    words = arguments(
        model, output, base=base, generations=generations, population=population, islands=islands,
        profile=profile, seed=seed, overrides=override,
    )  # fmt: skip
    os.execve(
        sys.executable,
        [sys.executable, "-m", "components.evomerge", *words],
        {**os.environ, "PYTHONPATH": path},
    )


def arguments(
    models: list[str],
    output: str,
    *,
    base: str,
    generations: int,
    population: int,
    islands: int,
    profile: str,
    seed: int,
    overrides: list[str],
) -> list[str]:
    """The command line of `python -m components.evomerge`. What is overridden by name comes last and wins."""
    from components.shared.runtime.config.literal import literal

    settings = {"generations": generations, "population": population, "islands": islands}
    overridden = [f"evomerge.{name}={value}" for name, value in settings.items()]
    if base:
        address = base if "://" in base else str(Path(base).resolve())
        overridden.append(f"evomerge.base={literal(address)}")
    inputs = [word for model in models for word in ("--input", model)]
    return [*inputs, "--output", output, "--profile", profile, "--seed", str(seed), *overridden, *overrides]
