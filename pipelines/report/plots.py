"""The report's pictures, each an inline SVG drawn by matplotlib. Text stays text: small, and searchable."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from components.shared.runtime.wording import size

from .records import Run

INK, GRID = "#6b7280", "#9ca3af40"
PALETTE = ("#2563eb", "#ea580c", "#059669", "#a855f7", "#dc2626", "#0891b2", "#ca8a04", "#64748b")
GOOD, BAD = "#059669", "#dc2626"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "agent-forge",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "savefig.transparent": True,
}


def svg(draw: Callable[[Axes], None], width: float, height: float) -> str:
    """The picture that `draw` makes on a pair of axes, as SVG; width and height in inches."""
    with plt.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def scores_through_the_pipeline(run: Run) -> str:
    """One line a suite over the published models, with 95% intervals; dotted: what guessing reaches."""
    models = [
        (p.name if len(p.models) == 1 else t.label, t.manifest["scores"])
        for p, t in run.models
        if t.manifest["scores"]
    ]

    def draw(ax: Axes) -> None:
        for colour, suite in zip(PALETTE, run.suites, strict=False):
            points = [(i, scores[suite]) for i, (_, scores) in enumerate(models) if suite in scores]
            if not points:
                continue
            x = [i for i, _ in points]
            ax.fill_between(
                x,
                [s["low"] for _, s in points],
                [s["high"] for _, s in points],
                color=colour,
                alpha=0.10,
                lw=0,
            )
            ax.plot(x, [s["score"] for _, s in points], "o-", ms=4, color=colour, label=suite)
            ax.plot(x, [s["chance"] for _, s in points], ":", lw=1, color=colour)
        ax.set_xticks(range(len(models)), [name for name, _ in models], rotation=25, ha="right")
        ax.set_ylim(-0.02, 1.02)
        ax.set_ylabel("score on the report split")
        ax.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))

    return svg(draw, 9.5, 3.8)


def size_against_quality(run: Run) -> str:
    """The way of the model in the plane of bytes and mean score; up and to the left is better."""
    models = [(p, t) for p, t in run.models if t.manifest["scores"]]

    def draw(ax: Axes) -> None:
        points = []
        for phase, task in models:
            manifest = task.manifest
            score = sum(s["score"] for s in manifest["scores"].values()) / len(manifest["scores"])
            points.append((manifest["bytes"], score, task.label if phase.name == "cognate" else phase.name))
        line = [p for p, (phase, _) in zip(points, models, strict=True) if phase.name != "cognate"]
        ax.plot([x for x, _, _ in line], [y for _, y, _ in line], "-", color=GRID, lw=2)
        for x, y, name in points:
            ax.plot(x, y, "o", color=PALETTE[0] if (x, y, name) in line else PALETTE[1], ms=7)
            near = [
                other for size, other, _ in points if 0.8 < size / x < 1.25
            ]  # labels give way to each other
            offset = 7 if y == max(near) else -14 if y == min(near) else -3
            ax.annotate(name, (x, y), xytext=(7, offset), textcoords="offset points", fontsize=9)
        if run.cognate_fp32_bytes:
            tenth = run.cognate_fp32_bytes / 10
            ax.axvline(tenth, ls="--", lw=1, color=GOOD)
            ax.annotate(
                "a tenth of the cognate",
                (tenth, ax.get_ylim()[0]),
                rotation=90,
                fontsize=8,
                color=GOOD,
                ha="right",
                va="bottom",
            )
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(lambda x, _: size(x))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.margins(x=0.12)
        ax.set_xlabel("size of the artifact (log scale)")
        ax.set_ylabel("mean score of the suites")

    return svg(draw, 9.5, 3.6)


def controls(rows: list[tuple[str, dict[str, Any]]]) -> str:
    """(phase, claim) of one unit, beside their controls: filled is the claim, open its control."""

    def draw(ax: Axes) -> None:
        for y, (_, c) in enumerate(reversed(rows)):
            colour = GOOD if c.get("holds") else BAD
            for key, face in (("control_", "none"), ("", colour)):
                value = c.get("control_value") if key else c.get("value")
                if value is None:
                    continue
                low, high = c.get(f"{key}low"), c.get(f"{key}high")
                if low is not None and high is not None:
                    ax.plot([low, high], [y, y], "-", lw=2, color=colour, alpha=0.35)
                ax.plot(value, y, "o", ms=8, mec=colour, mfc=face)
        ax.set_yticks(
            range(len(rows)), [f"{name}: {c['arm']} / {c['control']}" for name, c in reversed(rows)]
        )
        ax.set_ylim(-0.6, len(rows) - 0.4)
        ax.set_xlabel(f"{rows[0][1]['unit']}     ● the claim   ○ its control")

    return svg(draw, 9.5, 0.9 + 0.36 * max(len(rows), 1))


def population(generations: list[dict[str, Any]]) -> str:
    """Fitness of every member by generation, with the best so far and the mean."""

    def draw(ax: Axes) -> None:
        for g in generations:
            fitness = [m["fitness"] for m in g.get("members", []) if m.get("fitness") is not None]
            ax.plot([g["generation"]] * len(fitness), fitness, "o", ms=4, alpha=0.35, color=PALETTE[7])
        x = [g["generation"] for g in generations]
        ax.plot(x, [g["best"] for g in generations], "-o", ms=4, color=PALETTE[0], label="best so far")
        ax.plot(x, [g["mean"] for g in generations], "--", color=PALETTE[1], label="mean")
        ax.set_xlabel("generation")
        ax.set_ylabel("fitness, search split")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend()

    return svg(draw, 9.5, 3.2)


def curve(spec: dict[str, Any]) -> str:
    """One curve: a line a series, and a star at each goal (x, y) where it has some; sizes then go by factors."""

    def draw(ax: Axes) -> None:
        for colour, (name, y) in zip(PALETTE, spec["series"].items(), strict=False):
            finite = [
                (a, b) for a, b in zip(spec["x"], y, strict=False) if b is not None and math.isfinite(b)
            ]
            ax.plot([a for a, _ in finite], [b for _, b in finite], lw=1.4, color=colour, label=name)
        for x, y in spec.get("goals", ()):
            ax.plot(x, y, marker="*", color="grey", ls="")
            ax.set_xscale("log")
        ax.set_xlabel(spec.get("xlabel", "step"))
        ax.set_ylabel(spec.get("ylabel", ""))
        if len(spec["series"]) > 1:
            ax.legend(fontsize=8)

    return svg(draw, 4.6, 2.6)


def time_and_memory(run: Run) -> str:
    """When each task ran; wider is longer, side by side is parallel."""
    tasks = [
        (p, t) for p in run.phases for t in p.tasks if t.status.get("started") and t.status.get("finished")
    ]

    def draw(ax: Axes) -> None:
        zero = min((t.status["started"] for _, t in tasks), default=0.0)
        for y, (phase, t) in enumerate(reversed(tasks)):
            colour = PALETTE[[p.name for p in run.phases].index(phase.name)]
            length = t.status["finished"] - t.status["started"]
            ax.barh(y, length, left=t.status["started"] - zero, color=colour, height=0.72, alpha=0.85)
            memory = (t.status.get("peak_memory_bytes") or 0) / 2**20
            ax.annotate(
                f"{length:.0f} s · {memory:.0f} MiB",
                (t.status["finished"] - zero, y),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        ax.set_yticks(
            range(len(tasks)),
            [f"{p.name} · {t.label}" if t.label != p.name else p.name for p, t in reversed(tasks)],
        )
        ax.margins(x=0.14)
        ax.set_xlabel("seconds since the start")

    return svg(draw, 9.5, 0.9 + 0.27 * max(len(tasks), 1))
