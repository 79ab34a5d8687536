"""A genome: everything that makes a merged model from the parents, in small whole numbers.

Numbers are quantised so that two recipes which differ by nothing that matters are one genome, and the cache
of evaluations answers the second (space.py takes this further with its canonical form).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

LEVELS = 12  # a weight is a whole number 0 … 12; a row of weights is read relative to its sum
UNIT = 20  # density, scale, α and hops are counted in twentieths

# The bounds of the scalar genes, in units.
DENSITY = (1, UNIT)
SCALE = (0, 3 * UNIT)
ALPHA = (0, UNIT)
HOP = (UNIT // 2, 3 * UNIT // 2)


@dataclass(frozen=True)
class Genome:
    """One merge recipe.

    :param method: a name of the registry of merge methods.
    :param weights: one row per layer group, one whole number per parent, each row with at least one above 0.
    :param scales: λ of each layer group, in units of 1/20; none for 1 everywhere.
    :param density: the share of a task vector that is kept, in units of 1/20.
    :param alpha: RegMean's and FeatCal's, in units of 1/20.
    :param path: one entry per slot of the layer row (methods/layers/dfs.py), passed or not.
    :param hops: of each slot the scale of a jump into it, in units of 1/20.
    """

    method: str
    weights: tuple[tuple[int, ...], ...]
    scales: tuple[int, ...] = ()
    density: int = UNIT
    alpha: int = 18
    path: tuple[int, ...] = ()
    hops: tuple[int, ...] = ()

    def shares(self, group: int) -> list[float]:
        """The parents' weights in a layer group, summing to 1."""
        row = self.weights[group]
        return [weight / sum(row) for weight in row]

    def scale(self, group: int) -> int:
        """λ of a layer group, in units."""
        return self.scales[group] if self.scales else UNIT

    @cached_property
    def hash(self) -> str:
        """16 hex digits of the sha256 of the genome's JSON."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Genome:
        """What `to_json` returned."""
        return Genome(
            method=data["method"],
            weights=tuple(tuple(row) for row in data["weights"]),
            scales=tuple(data["scales"]),
            density=data["density"],
            alpha=data["alpha"],
            path=tuple(data["path"]),
            hops=tuple(data["hops"]),
        )


def quantise_row(weights: Sequence[float]) -> tuple[int, ...]:
    """WeightsWriter → whole numbers of at most LEVELS, relative to the largest, without a common divisor.

    Negative weights count as 0; a row without a positive weight is read as equal weights.
    """
    top = max(weights)
    if not top > 0:
        return (1,) * len(weights)
    levels = [round(LEVELS * max(weight, 0.0) / top) for weight in weights]
    divisor = math.gcd(*levels)
    return tuple(level // divisor for level in levels)


def clip(value: float, bounds: tuple[int, int]) -> int:
    """The whole number nearest to value, within bounds."""
    return min(max(round(value), bounds[0]), bounds[1])
