"""What a phase measured step by step, thin enough for a manifest: an entry of `run.extra["curves"]`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

POINTS = 200


def curve(series: Mapping[str, Sequence[float]], ylabel: str) -> dict[str, Any]:
    """Series of equal length, a value a step, as at most POINTS points: each the mean of the steps since the point before.

    :param ylabel: what the values are, with their unit.
    :returns: plain JSON, as the report reads it.
    """
    steps = len(next(iter(series.values())))
    edges = np.linspace(0, steps, min(steps, POINTS) + 1).astype(int)
    return {
        "x": edges[1:].tolist(),
        "xlabel": "step",
        "ylabel": ylabel,
        "series": {
            name: [round(float(np.mean(values[a:b])), 6) for a, b in itertools.pairwise(edges)]
            for name, values in series.items()
        },
    }
