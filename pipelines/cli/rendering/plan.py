"""A plan as a table: what will run, what will not, and for how long."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from components.shared.preflight.estimate import PhaseCost
from components.shared.runtime.wording import duration, size

from ...local.plan import Plan

COLOURS = {"run": "yellow", "cached": "cyan", "done": "green", "left out": "dim"}


def said(costs: Sequence[PhaseCost]) -> list[str]:
    """What the phases take, in one line."""
    if not costs:
        return ["by arithmetic: not known before the model is fetched: its address does not give its shape"]
    largest = max(costs, key=lambda cost: cost.device or cost.host)
    gpu = f" and {size(largest.device)} of a GPU's" if largest.device else ""
    hours = sum(cost.hours for cost in costs)
    time = f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(60 * hours))} minutes"
    return [
        f"by arithmetic: up to {size(largest.host)} of memory{gpu} ({largest.phase}), "
        f"{size(max(cost.disk for cost in costs))} of disk a phase, {time} (forge doctor --profile: each phase)"
    ]


def said_of(plan: Plan) -> list[str]:
    """The same of a plan; nothing where no task runs, or the run goes on: it was looked at when it began."""
    if plan.request.resume or all(task.fate != "run" for task in plan.tasks):
        return []
    return said(plan.costs)


def table(plan: Plan) -> RenderableType:
    """A row a task, and below it what the run will be."""
    out = Table(
        title=Text(f"{plan.folder.name} · {plan.pipeline.name}"), title_style="bold", title_justify="left",
        header_style="bold", box=None, pad_edge=False,
    )  # fmt: skip
    out.add_column("phase", no_wrap=True)
    out.add_column("task", overflow="fold")
    out.add_column("", no_wrap=True)
    out.add_column("takes", justify="right", no_wrap=True)
    for task in plan.tasks:
        takes = "" if task.fate != "run" else "?" if task.seconds is None else duration(task.seconds)
        out.add_row(Text(task.phase), Text(task.name), Text(task.fate, style=COLOURS[task.fate]), takes)
    running = sum(task.fate == "run" for task in plan.tasks)
    whole = "not known: no earlier run tells" if plan.seconds is None else f"about {duration(plan.seconds)}"
    lines = [
        f"{running} of {len(plan.tasks)} tasks run, {plan.options.slots} at the same time; time: {whole}"
    ]
    lines += said_of(plan)
    lines.append(
        f"folder: {plan.folder.path}" + (f"; store: {plan.status.store}" if plan.status.store else "")
    )
    if plan.ignored:
        lines.append(f"without meaning on this machine: {', '.join(plan.ignored)}")
    return Group(out, *(Text(line) for line in lines))
