"""The compiled loops against torch: not nearly the same, the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from components.shared.merging.inputs import MergeInputs
from components.shared.merging.kernels import BLOCK, philox
from components.shared.merging.methods.task_vectors.ties import compiled, in_torch
from tests.unit.shared.merging.tensors import parameters_of


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.int32)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.sampled_from([1, 7, BLOCK, 3 * BLOCK + 5]),
    st.booleans(),
    st.sampled_from([None, 0.0, 0.001]),
    st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_what_is_elected_in_one_pass_is_what_torch_makes_of_it_bit_for_bit(
    seed: int, models: int, size: int, half: bool, least: float | None, normalize: float
) -> None:
    drawn = torch.Generator().manual_seed(seed)
    base = torch.randn(size, generator=drawn) * 0.02
    parents = [base + 0.002 * torch.randn(size, generator=drawn) for _ in range(models)]
    parents[-1] = 2 * base - parents[0]  # what cancels out leaves what a fused product's rounding leaves
    if half:
        base, parents = base.bfloat16().float(), [parent.bfloat16().float() for parent in parents]
    inputs = MergeInputs(parents, base)
    weights = (torch.rand(models, generator=drawn) - 0.2).tolist()
    numbers = parameters_of("ties", models, weight=weights, normalize=normalize)
    thresholds = None if least is None else [least] * models
    own, expected = (add(inputs, numbers, inputs.task_vectors(), thresholds) for add in (compiled, in_torch))
    assert torch.equal(bits(own), bits(expected))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_does_not_get_lost(bad: float) -> None:
    inputs = MergeInputs([torch.tensor([bad, 1.0]), torch.tensor([1.0, 1.0])], torch.zeros(2))
    merged = compiled(inputs, parameters_of("ties", 2), inputs.task_vectors(), None)
    assert not merged[0].isfinite() and merged[1] == 1


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**60), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_random_numbers_are_those_of_numpys_philox(key: int, counter: int, steps: int) -> None:
    words = np.empty(4 * steps, np.uint64)
    philox(np.array([key % 2**64, key >> 64], np.uint64), np.uint64(counter), words)
    assert np.array_equal(words, np.random.Philox(key=key, counter=counter).random_raw(4 * steps))
