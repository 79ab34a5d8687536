"""Curves of the phase, as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.shared.evaluation.curves import curve


def expert_curve(points: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Success and divergence over the steps of an expert's training.

    :param points: (success rate, KL to the base in nats a token) of each step.
    """
    success, divergence = zip(*points, strict=True)
    return curve({"success of sampled answers": success, "KL to the base": divergence}, "rate; nats a token")


def search_curve(archive: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best fitness so far and the mean of each generation.

    :param archive: entries as plain dictionaries.
    """
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
