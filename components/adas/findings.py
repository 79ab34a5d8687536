"""What the report shows of the phase: every claim with its control, curves, the archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.shared.evaluation.statistics import paired_interval, wilson


def control(
    claim: str, arm: str, ours: np.ndarray, other: str, theirs: np.ndarray, *, unit: str, seed: int
) -> dict[str, Any]:
    """A claim that one arm is right more often than another on the same items; it holds where the interval says so.

    :param ours: (n,) bool, and `theirs`: which items each arm answers rightly.
    """
    difference, low, high = paired_interval(ours, theirs, seed=seed)
    arms = [(float(right.mean()), *wilson(float(right.mean()), len(right))) for right in (ours, theirs)]
    return {
        "claim": claim,
        "arm": arm,
        "value": arms[0][0],
        "low": arms[0][1],
        "high": arms[0][2],
        "control": other,
        "control_value": arms[1][0],
        "control_low": arms[1][1],
        "control_high": arms[1][2],
        "difference": [difference, low, high],
        "unit": unit,
        "higher_is_better": True,
        "holds": low > 0,
    }


def expert_curve(points: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Success and divergence over the steps of an expert's training, thinned to 200."""
    every = max(1, -(-len(points) // 200))
    return {
        "x": list(range(1, len(points) + 1, every)),
        "xlabel": "step",
        "ylabel": "rate; nats a token",
        "series": {
            "success of sampled answers": [point[0] for point in points[::every]],
            "KL to the base": [point[1] for point in points[::every]],
        },
    }


def search_curve(archive: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best fitness and the mean of each generation."""
    last = max(entry["generation"] for entry in archive)
    best: list[float] = []
    mean: list[float | None] = []
    for number in range(last + 1):
        alive = [
            entry["fitness"]
            for entry in archive
            if entry["generation"] == number and entry["fitness"] is not None
        ]
        best.append(max([*alive, *best[-1:]], default=0.0))
        mean.append(sum(alive) / len(alive) if alive else None)
    return {
        "x": list(range(last + 1)),
        "xlabel": "generation",
        "ylabel": "accuracy, search split",
        "series": {"best so far": best, "mean of the generation": mean},
    }
