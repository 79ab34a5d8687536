"""`forge report` and `forge validate`: what a run has measured, and whether settings fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...phases import COMPILED
from ..options import (Overrides, Profile, Run, Runs, Seed, console, say)


def report(run: Run = "latest", runs: Runs = Path("runs")) -> None:
    """Write a run's report again, and print its table."""
    from ...report import page
    from ...report import terminal
    from ...runs.folder import find

    folder = find(runs, run)
    written = page.write(folder.path)
    console.print(terminal.table(folder.path))
    say(f"report: {written}")


def validate(*, profile: Profile = "tiny", override: Overrides, seed: Seed = 0) -> None:
    """Check the settings of all phases and clusters, and the compiled pipeline, without running anything."""
    from components.shared.runtime.config.compose import validate_all

    from ...ir import reader
    from ...agent_forge import pipeline, text
    from ...cluster import FOLDER, load

    for config in validate_all(profile, override, seed=seed):
        say(f"ok   {config.phase:<12} {config.digest[:12]}")
    for path in sorted(FOLDER.glob("*.yaml")):
        reader.parse(text(pipeline(cluster=load(path.stem), pinned=False)))
        say(f"ok   cluster {path.stem}")
    reader.load(COMPILED)
    say(f"ok   {COMPILED}")
