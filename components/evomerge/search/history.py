"""The history of a search: one entry a generation of a population."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .archive import Record, ranked
from .diversity import diversity


def entry(
    records: Sequence[Record], *, round: int, worker: int, generation: int, restarted: bool = False
) -> dict[str, Any]:
    """What is kept of a generation.

    :param records: its population.
    :param restarted: all but the champion were drawn anew in it.
    """
    values = [record.fitness for record in records if record.fitness is not None and record.finished]
    return {
        "round": round,
        "worker": worker,
        "generation": generation,
        "best": max(values, default=None),
        "mean": float(np.mean(values)) if values else None,
        "diversity": diversity([record.genome for record in records]),
        "restarted": restarted,
        "members": [record.hash for record in ranked(records)],
    }


def since_best(history: Sequence[Mapping[str, Any]], worker: int) -> int:
    """How many generations an island has lived since its best was last improved; generation 0 is nobody's."""
    bests = [entry["best"] for entry in history if entry["worker"] == worker and entry["generation"] > 0]
    known = [-math.inf if best is None else best for best in bests]
    return len(known) - 1 - known.index(max(known)) if known else 0
