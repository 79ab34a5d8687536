"""`forge events`: a run's events as JSON lines, for a program; and their JSON Schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Run, Runs


def events(
    run: Run = "latest",
    after: Annotated[int, typer.Option(help="Only those behind this id.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the run has ended.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Their JSON Schema, and no run's events.")] = False,
    runs: Runs = Path("runs"),
) -> None:
    """Print what happens in a run of this machine, a JSON object a line; ids count from 1 without a gap.

    \b
    forge events latest --follow
    forge events demo --after 120
    forge events --schema
    """
    if schema:
        import json

        from ...runs.events import schema as schema_of_events

        print(json.dumps(schema_of_events(), indent=1))
        return
    from ...runs import log
    from ...runs.events import encode
    from ...runs.folder import find

    for event in log.follow(find(runs, run), after, until=None if follow else lambda: True):
        print(encode(event).decode(), end="", flush=follow)
