"""`forge metrics`: what a run has measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Run, Runs, say
from .tables import number, show, sparkline, table


def metrics(
    run: Run = "latest",
    task: Annotated[str, typer.Option("--task", "-t", help="Only of this task, or of this phase.")] = "",
    name: Annotated[
        str,
        typer.Option(
            "--name", "-n", metavar="PATTERN", help="Only what is called so: 'score/*', or a part: loss."
        ),
    ] = "",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curves too: FILE.svg or FILE.html.")
    ] = None,
    runs: Runs = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with whole curves.")] = False,
) -> None:
    """Show what a run has measured, or has so far: last values, and curves in small.

    \b
    forge metrics
    forge metrics latest --task training --name loss
    forge metrics demo --name 'score/*' --json
    forge metrics demo --task quietstar --plot quietstar.svg

    From the run's folder alone: a tracking server is not asked.
    """
    import json

    from ...analysis.measurements import measurements
    from ...runs.folder import find

    if plot is not None:
        from ...analysis import plots

        plots.check_file(plot)
    folder = find(runs, run)
    series = measurements(folder, task=task, pattern=name)
    if plot is not None:
        plots.write(plot, plots.grid(plots.panels_of(series)), f"{folder.name}: metrics")
    if as_json:
        typer.echo(
            json.dumps({"run": folder.name, "metrics": [curve.to_json() for curve in series]}, indent=1)
        )
        return
    drawn = table("task", "metric", "last", "lowest", "highest", "values", "curve", text=2)
    drawn.columns[-1].justify = "left"
    for curve in series:
        span = [number(min(curve.values)), number(max(curve.values))] if len(curve.values) > 1 else ["", ""]
        drawn.add_row(
            curve.task, curve.name, number(curve.last), *span, str(len(curve.values)), sparkline(curve.values)
        )
    show(drawn)
    if plot is not None:
        say(f"plot: {plot}")
