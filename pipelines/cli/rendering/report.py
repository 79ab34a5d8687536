"""The report as a table in the terminal: a row a phase."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from components.shared.evaluation.overall import overall
from components.shared.runtime.wording import count, duration, size

from ...report import formatting
from ...report.records import read

COLOUR = {
    "succeeded": "green",
    "cached": "cyan",
    "running": "yellow",
    "failed": "red",
    "cancelled": "red",
    "pending": "dim",
}


def table(folder: Path) -> Table:
    """A row a phase: time, memory, parameters, bytes, scores (dim where guessing is not excluded)."""
    run = read(folder)
    out = Table(
        title=f"{run.name} · {run.info.get('status', '')}",
        title_style="bold",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    # Where the terminal is narrow, a row is still known by its phase's name.
    out.add_column("phase", no_wrap=True, min_width=11)
    for heading in ("time", "memory", "params", "size"):
        out.add_column(heading, justify="right", no_wrap=True)
    for suite in run.suites:
        out.add_column(suite[:8], justify="right", no_wrap=True)
    out.add_column("overall", justify="right", no_wrap=True)
    for phase in run.phases:
        mark = Text(phase.name, style=COLOUR.get(phase.status, ""))
        measured = (duration(phase.seconds), size(phase.peak_memory_bytes)) if phase.tasks else ("–", "–")
        rows = phase.models
        if len(rows) != 1:
            out.add_row(mark, *measured)
        for task in rows:
            manifest = task.manifest
            name, cost = (
                (mark, measured) if len(rows) == 1 else (Text(f"  {task.label}", style="dim"), ("", ""))
            )
            cells = []
            for suite in run.suites:
                value = manifest["scores"].get(suite)
                cells.append(
                    Text(
                        formatting.score(value),
                        style="" if value and formatting.clear_of_chance(value) else "dim",
                    )
                )
            total = overall(manifest["scores"])
            cells.append(Text(formatting.score(total._asdict() if total else None), style="bold"))
            out.add_row(
                name,
                *cost,
                count(manifest["parameters"]),
                size(manifest["bytes"]),
                *cells,
            )
    held = sum(bool(c.get("holds")) for _, c in run.controls)
    passed = sum(bool(g["passed"]) for _, g in run.gates)
    out.caption = (
        f"percent with 95% intervals, overall corrected for guessing · {held} of {len(run.controls)} claims held · "
        f"{passed} of {len(run.gates)} gates passed"
    )
    return out
