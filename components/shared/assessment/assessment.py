"""The assessment of a model: its scores, what they are to be seen beside, and what follows from them.

Made of scores alone, wherever they come from: just measured (measure.py), or read from the manifests of a run. Nothing here
loads a model, so that a run's report needs no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.shared.evaluation.overall import Overall, overall
from components.shared.evaluation.paired import OVERALL, Difference, differences

from .recommendations import Recommendation, recommend

FORMAT = 1

Scores = Mapping[str, Mapping[str, Any]]
"""Suite → its score as a manifest holds it: score, low, high, n, chance, detail, outcomes, asked."""

Kind = Literal["chance", "lookup", "before", "base", "against"]
"""Guessing; the nearest train item's answer; the model before the phase; what the run began with; one that was named."""

MEANING: dict[Kind, str] = {
    "chance": "guessing",
    "lookup": "the nearest train item's answer",
    "before": "the model before the phase",
    "base": "the base model",
    "against": "the model compared with",
}


@dataclass(frozen=True)
class Compared:
    """Who a model is seen beside.

    :param label: what it is called: a phase, a variant, a folder.
    """

    kind: Kind
    label: str
    scores: Scores
    digest: str = ""


@dataclass(frozen=True)
class Baseline:
    """A baseline, and the model's differences from it: suite → difference, and `overall`.

    :param scores: suite → {score, low, high, n, chance}.
    """

    kind: Kind
    label: str
    digest: str
    scores: dict[str, dict[str, Any]]
    overall: Overall | None
    differences: dict[str, Difference]


@dataclass(frozen=True)
class Assessment:
    """All that is known of how good a model is.

    :param model: name, digest, and what else is known of it.
    :param scores: suite → score as a manifest holds it.
    :param overall: None where there is no score.
    :param seed: of the items and the bootstrap.
    """

    model: dict[str, Any]
    seed: int
    scores: dict[str, dict[str, Any]]
    overall: Overall | None
    baselines: list[Baseline]
    recommendations: list[Recommendation]

    def baseline(self, kind: Kind) -> Baseline | None:
        """The first baseline of this kind."""
        return next((baseline for baseline in self.baselines if baseline.kind == kind), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "format": FORMAT,
            "model": self.model,
            "seed": self.seed,
            "overall": self.overall and self.overall._asdict(),
            "scores": self.scores,
            "baselines": [
                {
                    **dataclasses.asdict(baseline),
                    "overall": baseline.overall and baseline.overall._asdict(),
                }
                for baseline in self.baselines
            ],
            "recommendations": [dataclasses.asdict(each) for each in self.recommendations],
        }


def assessment(
    model: Mapping[str, Any],
    scores: Scores,
    compared: Sequence[Compared] = (),
    *,
    gates: Sequence[Mapping[str, Any]] = (),
    claims: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
) -> Assessment:
    """The assessment of a model with these scores.

    :param compared: baselines beside chance, which is always there.
    :param gates: results of quality gates, and `claims` of phases, from which recommendations follow too.
    :param seed: of the bootstrap.
    """
    own = {suite: dict(score) for suite, score in scores.items()}
    baselines = [_beside_chance(own)] if own else []
    for other in compared:
        baselines.append(
            Baseline(
                other.kind,
                other.label,
                other.digest,
                {suite: _figures(score) for suite, score in other.scores.items()},
                overall(other.scores),
                differences(own, other.scores, seed=seed),
            )
        )
    total = overall(own)
    return Assessment(
        dict(model), seed, own, total, baselines, recommend(own, total, baselines, gates, claims)
    )


FIGURES = ("score", "low", "high", "n", "chance")


def _figures(score: Mapping[str, Any]) -> dict[str, Any]:
    return {name: score[name] for name in FIGURES}


def _beside_chance(scores: Scores) -> Baseline:
    """Chance as a baseline: known and no measurement, so that a difference has the interval of the score."""
    guessed = {
        suite: {**_figures(score), **dict.fromkeys(("score", "low", "high"), score["chance"])}
        for suite, score in scores.items()
    }
    apart = {suite: _above(score) for suite, score in scores.items()}
    total = overall(scores)
    if total is not None:
        apart[OVERALL] = Difference(
            total.score, total.low, total.high, sum(each.n for each in apart.values()), 0, 0
        )
    return Baseline("chance", MEANING["chance"], "", guessed, overall(guessed), apart)


def _above(score: Mapping[str, Any]) -> Difference:
    difference, low, high = (score[end] - score["chance"] for end in ("score", "low", "high"))
    return Difference(difference, low, high, score["n"], 0, 0)
