"""`forge test`: asks the agent something."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Runs, Seed, say


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
