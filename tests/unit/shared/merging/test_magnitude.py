"""The streaming threshold against a sort."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.merging.magnitude import threshold


@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=200),
    st.floats(0.01, 1.0),
    st.integers(1, 5),
)
@settings(max_examples=100, deadline=None)
def test_the_threshold_is_the_one_that_sorting_finds(
    values: list[float], density: float, pieces: int
) -> None:
    vector = torch.tensor(values, dtype=torch.float32)
    expected = np.sort(np.abs(vector.numpy()))[::-1][math.ceil(density * len(values)) - 1]
    assert threshold(lambda: vector.tensor_split(pieces), density) == expected


def test_it_keeps_exactly_the_share_that_was_asked_for() -> None:
    vector = torch.randn(100_003, generator=torch.Generator().manual_seed(0))
    limit = threshold(lambda: [vector[:5], vector[5:]], 0.2)
    assert int((vector.abs() >= limit).sum()) == math.ceil(0.2 * 100_003)


@pytest.mark.parametrize("density", [0.0, 1.1, -1.0])
def test_a_density_outside_its_range_is_refused(density: float) -> None:
    with pytest.raises(ValueError, match="density"):
        threshold(lambda: [torch.ones(3)], density)


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        threshold(lambda: [torch.tensor([1.0, float("inf")])], 0.5)
