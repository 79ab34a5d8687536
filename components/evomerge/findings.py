"""The course of the search as the report shows it: plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .search.population import Population


def generations(population: Population) -> list[dict[str, Any]]:
    """One entry a generation, islands put together: best, mean, diversity (mean over islands), members best first."""
    history = []
    for number in sorted({entry["generation"] for entry in population.history}):
        entries = [entry for entry in population.history if entry["generation"] == number]
        hashes = dict.fromkeys(member for entry in entries for member in entry["members"])
        members = sorted(
            (population.archive[member] for member in hashes),
            key=lambda record: record.measurement.rank,
            reverse=True,
        )
        values = [record.fitness for record in members if record.fitness is not None and record.finished]
        history.append(
            {
                "generation": number,
                "best": max(values, default=None),
                "mean": float(np.mean(values)) if values else None,
                "diversity": float(np.mean([entry["diversity"] for entry in entries])),
                "restarted": any(entry["restarted"] for entry in entries),
                "members": [record.summary() for record in members],
            }
        )
    return history


def curves(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fitness and diversity by generation.

    :param history: what `generations` returned.
    """
    whole = [entry for entry in history if entry["best"] is not None]
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
