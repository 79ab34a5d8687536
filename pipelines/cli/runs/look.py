"""`forge report`, `forge test` and `forge validate`: what a run has measured and made, and whether settings fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...phases import COMPILED
from ..options import Overrides, Profile, Run, Runs, Seed, console, say


def report(run: Run = "latest", runs: Runs = Path("runs")) -> None:
    """Write a run's report again, and print its table."""
    from ...report import page, terminal
    from ...runs.folder import find

    folder = find(runs, run)
    written = page.write(folder.path)
    console.print(terminal.table(folder.path))
    say(f"report: {written}")


def test(
    prompt: Annotated[str, typer.Option(help="What to ask.")],
    place: Annotated[
        str, typer.Argument(metavar="[RUN|FOLDER]", help="A run's last model, or a model.")
    ] = "latest",
    runs: Runs = Path("runs"),
    tokens: Annotated[int, typer.Option(help="At most so many new tokens.")] = 64,
    sample: Annotated[bool, typer.Option(help="Draw the answer, instead of the most probable one.")] = False,
    seed: Seed = 0,
) -> None:
    """Ask the agent something.

    \b
    forge test --prompt "12+7="
    forge test --prompt "12+7=" runs/demo/artifacts/evomerge/model
    """
    from ...generate import agent_of, answer

    agent = agent_of(runs, place)
    say(f"{agent}\n{answer(agent, prompt, tokens=tokens, sample=sample, seed=seed)}")


def validate(*, profile: Profile = "tiny", override: Overrides, seed: Seed = 0) -> None:
    """Check the settings of all phases and clusters, and the compiled pipeline, without running anything."""
    from ...agent_forge import pipeline, text
    from ...cluster import FOLDER, load
    from ...ir import reader
    from ...settings import composed

    for config in composed(profile=profile, overrides=override, seed=seed).values():
        say(f"ok   {config.phase:<12} {config.digest[:12]}")
    for path in sorted(FOLDER.glob("*.yaml")):
        reader.parse(text(pipeline(cluster=load(path.stem), pinned=False)))
        say(f"ok   cluster {path.stem}")
    reader.load(COMPILED)
    say(f"ok   {COMPILED}")
