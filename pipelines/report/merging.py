"""What the search of phase evomerge found: its Pareto front, the champion's recipe, how long workers waited."""

from __future__ import annotations

from collections import Counter
from typing import Any

from matplotlib.axes import Axes

from .plots import GRID, PALETTE, svg
from .records import Phase


def front(members: list[dict[str, Any]], champion: str) -> str:
    """Merges that no other beats on one task without losing on another: a line each, over the tasks.

    champion: the hash of the genome that is drawn in colour.
    """
    tasks = sorted({task for member in members for task in member["scores"]})

    def draw(ax: Axes) -> None:
        for member in sorted(members, key=lambda member: member["genome"] == champion):
            chosen = member["genome"] == champion
            ax.plot(
                [member["scores"].get(task, float("nan")) for task in tasks],
                "o-",
                ms=4,
                lw=2 if chosen else 1,
                color=PALETTE[1] if chosen else PALETTE[7],
                alpha=1 if chosen else 0.4,
                label=f"champion: {member['method']}" if chosen else None,
            )
        ax.set_xticks(range(len(tasks)), tasks, rotation=25, ha="right")
        ax.set_ylim(-0.02, 1.02)
        ax.set_ylabel("accuracy, search split")
        if any(member["genome"] == champion for member in members):
            ax.legend()

    return svg(draw, 9.5, 3.4)


def weights(shares: dict[str, Any]) -> str:
    """How much of each parent is in each run of layers, from the lowest up."""
    groups = shares["groups"]

    def draw(ax: Axes) -> None:
        left = [0.0] * len(groups)
        for colour, (name, row) in zip(PALETTE, shares["parents"].items(), strict=False):
            ax.barh(range(len(groups)), row, left=left, color=colour, height=0.7, alpha=0.85, label=name)
            left = [a + b for a, b in zip(left, row, strict=True)]
        ax.set_yticks(range(len(groups)), groups)
        ax.set_xlim(0, 1)
        ax.set_xlabel("share of the parents' weights")
        ax.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        ax.grid(axis="y", visible=False)
        ax.axvline(1.0, color=GRID, lw=1)

    return svg(draw, 9.5, 1.2 + 0.34 * len(groups))


def idle(phase: Phase) -> tuple[float, float] | None:
    """(seconds that workers waited, seconds that they had), from the first worker's start to the last one's end.

    There are as many places as the largest round has workers, and each has that whole time, whether its worker measures,
    waits for slower ones, or the selection runs. None where there was no round.
    """
    workers = [
        task.status
        for task in phase.tasks
        if task.status.get("step") == "worker"
        and task.status.get("started") is not None
        and task.status.get("finished") is not None
    ]
    if not workers:
        return None
    places = max(Counter(worker["task"].rpartition("-worker-")[0] for worker in workers).values())
    span = max(worker["finished"] for worker in workers) - min(worker["started"] for worker in workers)
    return places * span - sum(worker["finished"] - worker["started"] for worker in workers), places * span
