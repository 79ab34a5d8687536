"""Curves of the phase, as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


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
