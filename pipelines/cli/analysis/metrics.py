"""`forge metrics`: what a run has measured; `forge metrics report`: how the phases do over all runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ..options import Run, Runs, say
from .tables import number, show, sparkline, table

if TYPE_CHECKING:
    from ...analysis.performance import Report


class OfARun(TyperGroup):
    """Without a subcommand's name it is about a run, whose name comes first: `forge metrics demo`."""

    left_out = "show"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the subcommand where it was left out."""
        return super().parse_args(ctx, args if args and args[0] in self.commands else [self.left_out, *args])


app = typer.Typer(cls=OfARun, rich_markup_mode=None, help="What was measured, in a run or over all of them.")


@app.command("show")
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
    forge metrics report                  how the phases do over all runs (forge metrics report --help)

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


@app.command("report")
def report(
    runs: Runs = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object with the five sections.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as a page too: FILE.html.")
    ] = None,
) -> None:
    """Show how the phases do over all runs of a folder: time against their baseline, memory, success, scores, advice.

    \b
    forge metrics report
    forge metrics report --runs /data/runs --html performance.html
    forge metrics report --json

    `gained` is by how much a phase's models score above those that they were made from, over all profiles.

    From the runs' own records. A phase has degraded where it ran more than ten times and the last ten took over 1.5 times
    as long as the first ten, runs of one profile compared with each other.
    """
    import json

    from ...analysis import performance_page
    from ...analysis.history import report_of_runs

    if html is not None:
        performance_page.check_file(html)
    found = report_of_runs(runs)
    if html is not None:
        performance_page.write(html, found)
    if as_json:
        typer.echo(json.dumps(found.model_dump(by_alias=True), indent=1))
        return
    _show(found)
    if html is not None:
        say(f"page: {html}")


def _show(found: Report) -> None:
    from components.shared.runtime.wording import size

    drawn = table(
        "phase", "profile", "runs", "success", "baseline", "last ten", "", "memory", "cores", "gained", text=2
    )
    for each in (pace for phase in found.phase_performance.values() for pace in phase.paces):
        times = [
            f"{each.baseline_time:.1f} s",
            f"{each.recent_time:.1f} s",
            "degraded" if each.degraded else "",
        ]
        gained = found.model_performance["phases"].get(each.phase, {}).get("gained")
        used = [size(each.memory_bytes), number(each.cores), "" if gained is None else f"{gained:+.3f}"]
        drawn.add_row(
            each.phase, each.profile, str(each.executions), f"{each.success_rate:.0%}", *times, *used
        )
    show(drawn)
    typer.echo(found.summary())
    for advice in found.recommendations:
        typer.echo(f"- {advice}")
