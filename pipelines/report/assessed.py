"""How good the models of a run are: each beside the model before it, the one that the run began with, and lookup.

The scores, and what came of each item, are in the manifests: nothing is measured here. An assessment of its own, as
`forge evaluate` makes it, is drawn by the same template.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes

from components.shared.assessment.assessment import MEANING, Assessment, Compared, assessment
from components.shared.evaluation.paired import OVERALL
from components.shared.runtime.atomic import write_atomically

from ..runs.relatives import label_of, relatives
from . import formatting
from .plots import PALETTE, svg
from .records import Phase, Run, Task

LOOKUP = "lookup"
"""In a manifest's `extra`: what the nearest train item's answer scores, as evaluation/report_split.py writes it."""


TIMED = ("latency_seconds", "tokens_per_second", "seconds_per_right")
"""In a manifest's `timing`, of suite efficiency."""


class Assessed(NamedTuple):
    """A model of a run, assessed."""

    phase: Phase
    task: Task
    found: Assessment

    @property
    def label(self) -> str:
        """Its phase, and its variant where there are several."""
        return label_of(self.task.manifest)


class Assessments:
    """The models of a run that have scores, in the order of the phases; each is assessed once.

    What gates and claims recommend is said of the last one.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.manifests = {task.manifest["digest"]: task.manifest for _, task in run.models}

    @cached_property
    def all(self) -> list[Assessed]:
        """Every model with scores."""
        return [
            Assessed(phase, task, self._of(task.manifest, last=task is self.run.final))
            for phase, task in self.run.models
            if task.manifest["scores"]
        ]

    @property
    def costly(self) -> list[tuple[Assessed, dict[str, Any]]]:
        """The models of which it is known what a right answer of efficiency costs, with that suite's score."""
        asked = [(each, each.found.scores.get("efficiency", {})) for each in self.all]
        return [(each, score) for each, score in asked if "tokens_per_right" in score.get("detail", {})]

    @property
    def final(self) -> Assessment | None:
        """Of the last model."""
        return self.all[-1].found if self.all else None

    def _of(self, manifest: Mapping[str, Any], *, last: bool) -> Assessment:
        compared = (
            [Compared("lookup", MEANING["lookup"], known)] if (known := manifest["extra"].get(LOOKUP)) else []
        )
        for kind, digest in relatives(self.manifests, manifest["digest"]).items():
            other = self.manifests[digest]
            compared.append(Compared(kind, label_of(other), other["scores"], digest))
        gates = [{**gate, "phase": phase.name} for phase, gate in self.run.gates] if last else []
        claims = [{**claim, "phase": phase.name} for phase, claim in self.run.controls] if last else []
        facts = {
            "name": label_of(manifest),
            **{key: manifest[key] for key in ("digest", "phase", "parameters", "bytes")},
        }
        return assessment(
            facts, _timed(manifest), compared, gates=gates, claims=claims, seed=manifest["seed"]
        )


def _timed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a manifest, efficiency's with what its phase has timed."""
    scores, timing = dict(manifest["scores"]), manifest.get("timing", {})
    if "efficiency" in scores:
        known = {name: timing[name] for name in TIMED if name in timing}
        scores["efficiency"] = {**scores["efficiency"], "timing": known}
    return scores


def figures(found: Assessment) -> dict[str, float]:
    """What runs are compared by in KFP's interface: the overall score, its interval, and what it is over each baseline."""
    if found.overall is None:
        return {}
    values = {
        "overall": found.overall.score,
        "overall_low": found.overall.low,
        "overall_high": found.overall.high,
    }
    for baseline in found.baselines:
        if baseline.kind != "chance" and OVERALL in baseline.differences:
            values[f"over_{baseline.kind}"] = baseline.differences[OVERALL].difference
    values |= {f"score/{suite}": float(score["score"]) for suite, score in found.scores.items()}
    return {**values, "recommendations": float(len(found.recommendations))}


def picture(models: list[Assessed]) -> Markup:
    """The overall score of each model with its interval; 0 is guessing."""

    def draw(ax: Axes) -> None:
        totals = [(place, each.found.overall) for place, each in enumerate(models) if each.found.overall]
        x = [place for place, _ in totals]
        middle = [total.score for _, total in totals]
        below = [total.score - total.low for _, total in totals]
        above = [total.high - total.score for _, total in totals]
        ax.errorbar(x, middle, yerr=[below, above], fmt="o-", ms=5, lw=1.4, capsize=3, color=PALETTE[0])
        ax.axhline(0, ls=":", lw=1, color=PALETTE[7])
        ax.set_xticks(range(len(models)), [each.label for each in models], rotation=25, ha="right")
        ax.set_ylabel("overall, 0 is guessing")

    return Markup(svg(draw, 9.5, 3.0))


def write(path: Path, found: Assessment) -> None:
    """Write the page of one assessment."""
    template = formatting.environment().get_template("assessment.html.j2")
    write_atomically(path, template.render(found=found, MEANING=MEANING, OVERALL=OVERALL))
