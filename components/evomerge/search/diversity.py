"""How different the members of a population are, and when it has collapsed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from components.shared.merging.registry import merge_method

from .genome import ALPHA, DENSITY, SCALE, Genome


def distance(a: Genome, b: Genome) -> float:
    """In [0, 1]: 1 for different methods; else the mean over the genes that the method reads of their differences.

    WeightsWriter differ by half the L1 distance of the shares (total variation), scalars by their share of the
    range, paths by the share of slots that differ.
    """
    if a.method != b.method:
        return 1.0
    genes = merge_method(a.method).genes
    rows = range(len(a.weights))
    parts = [float(np.mean([np.abs(np.subtract(a.shares(row), b.shares(row))).sum() / 2 for row in rows]))]
    if "scales" in genes:
        parts.append(float(np.mean([abs(a.scale(g) - b.scale(g)) for g in rows])) / (SCALE[1] - SCALE[0]))
    for name, (low, high) in (("density", DENSITY), ("alpha", ALPHA)):
        if name in genes:
            parts.append(abs(getattr(a, name) - getattr(b, name)) / (high - low))
    if a.path and b.path:
        parts.append(float(np.mean(np.not_equal(a.path, b.path))))
    return float(np.mean(parts))


def diversity(genomes: Sequence[Genome]) -> float:
    """Mean distance over all pairs; 0 for fewer than two genomes."""
    pairs = list(itertools.combinations(genomes, 2))
    return float(np.mean([distance(a, b) for a, b in pairs])) if pairs else 0.0
