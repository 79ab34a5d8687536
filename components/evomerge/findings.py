"""What the search found, as the report shows it: plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.shared.evaluation.statistics import paired_interval, wilson

from .judge import Answers
from .population import Population


def generations(population: Population) -> list[dict[str, Any]]:
    """One entry a generation, islands put together: best, mean, diversity (mean over islands), members best
    first.
    """
    found = []
    for number in sorted({entry["generation"] for entry in population.history}):
        entries = [entry for entry in population.history if entry["generation"] == number]
        hashes = dict.fromkeys(member for entry in entries for member in entry["members"])
        members = sorted(
            (population.archive[member] for member in hashes),
            key=lambda record: record.measurement.rank,
            reverse=True,
        )
        values = [record.fitness for record in members if record.fitness is not None and record.finished]
        found.append(
            {
                "generation": number,
                "best": max(values, default=None),
                "mean": float(np.mean(values)) if values else None,
                "diversity": float(np.mean([entry["diversity"] for entry in entries])),
                "restarted": any(entry["restarted"] for entry in entries),
                "members": [record.summary() for record in members],
            }
        )
    return found


def curves(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fitness and diversity by generation."""
    whole = [entry for entry in found if entry["best"] is not None]
    x = [entry["generation"] for entry in whole]
    so_far = np.maximum.accumulate([entry["best"] for entry in whole]).tolist() if whole else []
    return {
        "Fitness by generation": {
            "x": x,
            "xlabel": "generation",
            "ylabel": "fitness, search split",
            "series": {
                "best so far": so_far,
                "best": [entry["best"] for entry in whole],
                "mean": [entry["mean"] for entry in whole],
            },
        },
        "Diversity by generation": {
            "x": x,
            "xlabel": "generation",
            "ylabel": "mean distance of two genomes",
            "series": {"diversity": [entry["diversity"] for entry in whole]},
        },
    }


def comparison(
    claim: str, arm: str, control: str, ours: Answers, theirs: Answers, *, seed: int
) -> dict[str, Any]:
    """A claim with its control on the same items: it holds where the whole 95% interval of the difference is
    above 0.
    """
    difference, low, high = paired_interval(ours.right, theirs.right, seed=seed)
    value, other = float(ours.right.mean()), float(theirs.right.mean())
    (value_low, value_high), (other_low, other_high) = (
        wilson(rate, len(ours.right)) for rate in (value, other)
    )
    return {
        "claim": claim,
        "arm": arm,
        "value": value,
        "low": value_low,
        "high": value_high,
        "control": control,
        "control_value": other,
        "control_low": other_low,
        "control_high": other_high,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "unit": "accuracy, report split",
        "higher_is_better": True,
        "holds": low > 0,
    }
