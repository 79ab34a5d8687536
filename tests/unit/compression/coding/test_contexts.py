"""Which levels share tables: the cheapest way of all, by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from components.compression.coding.contexts import SYMBOL_BITS, fit_tables, partition
from components.shared.models.remote_code.decode_ectcq import COARSE


def cost(counts: np.ndarray, width: list[int]) -> float:
    """Bits of tables, and of symbols under them."""
    total, at = 0.0, 0
    for w in width:
        part = counts[at : at + w].sum(axis=0)
        share = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
        total -= (part[part > 0] * np.log2(share[part > 0])).sum()
        total += SYMBOL_BITS * 2 * counts.shape[2]
        at += w
    return total


@pytest.mark.parametrize("seed", range(5))
def test_levels_are_divided_at_least_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(5), 14).reshape(7, 2, 5)
    counts = np.stack(
        [[rng.multinomial(rng.integers(20, 400), row) for row in pair] for pair in share]
    ).astype(float)
    ways = (
        [b - a for a, b in itertools.pairwise((0, *cuts, 7))]
        for many in range(7)
        for cuts in itertools.combinations(range(1, 7), many)
    )
    assert cost(counts, list(partition(counts))) == pytest.approx(
        min(cost(counts, way) for way in ways), rel=1e-6
    )


def test_levels_of_one_distribution_share_a_table_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    index = np.rint(rng.normal(size=40_000) * np.repeat([1, 1, 8, 8], 10_000)).astype(int)
    found = fit_tables(index, rng.integers(0, 2, 40_000), np.repeat([0, 1, 2, 3], 10_000), 4, 40_000)
    assert list(found.width) == [2, 2] and list(found.class_of(np.arange(4))) == [0, 0, 1, 1]
    assert (found.frequencies.sum(axis=1) == 1 << COARSE).all()
    bits = found.bits()
    assert bits[0, :, 0].max() < bits[1, :, 0].min() < bits[0, :, 6].min()
