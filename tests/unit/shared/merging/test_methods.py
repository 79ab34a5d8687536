"""The merge methods against closed forms, papers' worked examples and algebra."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.merging.inputs import MergeInputs, TensorInMemory
from components.shared.merging.methods.activations.regmean import regmean, shrink_off_diagonal
from components.shared.merging.methods.averages.linear import linear
from components.shared.merging.methods.averages.nuslerp import nuslerp
from components.shared.merging.methods.averages.slerp import fold, slerp
from components.shared.merging.methods.task_vectors.dare import drop_and_rescale, mask
from components.shared.merging.methods.task_vectors.task_arithmetic import task_arithmetic
from components.shared.merging.methods.task_vectors.ties import disjoint_mean, elect, ties, trim
from components.shared.merging.registry import merge_methods
from tests.unit.shared.merging.tensors import merge, parameters_of

seeds = st.integers(0, 2**31 - 1)


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seeds, st.integers(1, 5), st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_linear_is_the_weighted_sum_and_does_not_touch_its_inputs(seed: int, count: int, size: int) -> None:
    tensors = [randn(seed + i, size) for i in range(count)]
    before = [tensor.clone() for tensor in tensors]
    weights = [0.1 * (i + 1) for i in range(count)]
    expected = sum(weight * tensor.double() for weight, tensor in zip(weights, tensors, strict=True))
    torch.testing.assert_close(linear(tensors, weights).double(), expected, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


def test_bfloat16_models_are_added_up_in_float32() -> None:
    tensors = [torch.full((4,), 1.0, dtype=torch.bfloat16), torch.full((4,), 2**-9, dtype=torch.bfloat16)]
    merged = linear(tensors, [1.0, 1.0])
    assert merged.dtype == torch.float32
    assert (merged == 1.0 + 2**-9).all()  # bfloat16 would have rounded this to 1


@given(seeds, st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_slerp_of_a_vector_with_itself_is_itself(seed: int, t: float) -> None:
    a = randn(seed, 5, 7)
    torch.testing.assert_close(slerp(t, a, a.clone()), a)


@given(st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_slerp_of_orthonormal_vectors_is_the_circle_between_them(t: float) -> None:
    a, b = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    expected = torch.tensor([math.cos(t * math.pi / 2), math.sin(t * math.pi / 2), 0.0])
    torch.testing.assert_close(slerp(t, a, b), expected)


@given(seeds, st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_slerp_ends_at_its_ends_and_keeps_the_length_of_equally_long_vectors(seed: int, t: float) -> None:
    a, b = (vector / vector.norm() for vector in (randn(seed, 12), randn(seed + 1, 12)))
    torch.testing.assert_close(slerp(0.0, a, b), a)
    torch.testing.assert_close(slerp(1.0, a, b), b)
    assert float(slerp(t, a, b).norm()) == pytest.approx(1.0, abs=1e-5)


def test_slerp_takes_the_straight_line_where_no_great_circle_is_defined() -> None:
    a, zero = torch.tensor([1.0, 2.0]), torch.zeros(2)
    torch.testing.assert_close(slerp(0.25, a, -a), 0.5 * a)
    torch.testing.assert_close(slerp(0.25, a, zero), 0.75 * a)
    torch.testing.assert_close(slerp(0.5, a, 3 * a), 2 * a)


def test_slerp_of_three_is_folded_and_passes_over_a_parent_without_weight() -> None:
    a, b, c = randn(0, 9), randn(1, 9), randn(2, 9)
    torch.testing.assert_close(fold([a, b, c], [0.5, 0.0, 0.5]), slerp(0.5, a, c))
    torch.testing.assert_close(fold([a, b, c], [0.0, 0.0, 1.0]), c)
    third = 1 / 3
    torch.testing.assert_close(fold([a, b, c], [third] * 3), slerp(third, slerp(0.5, a, b), c))


def test_nuslerp_turns_each_row_at_the_lengths_of_both() -> None:
    a = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    b = torch.tensor([[0.0, 4.0], [0.0, 3.0]])
    half = math.sqrt(0.5)
    torch.testing.assert_close(nuslerp(0.5, a, b), torch.tensor([[2 * half, 4 * half], [0.0, 2.0]]))


@given(seeds, st.floats(0.0, 2.0))
@settings(max_examples=30, deadline=None)
def test_task_arithmetic_adds_and_negates_task_vectors(seed: int, scale: float) -> None:
    base, a, b = randn(seed, 6, 3), randn(seed + 1, 6, 3), randn(seed + 2, 6, 3)
    torch.testing.assert_close(task_arithmetic(base, [a], [1.0], 1.0), a)
    torch.testing.assert_close(task_arithmetic(base, [a, b], [0.5, 0.5], 0.0), base)
    expected = base + scale * (0.3 * (a - base) + 0.7 * (b - base))
    torch.testing.assert_close(
        task_arithmetic(base, [a, b], [0.3, 0.7], scale), expected, rtol=1e-4, atol=1e-5
    )
    negated = task_arithmetic(base, [a], [1.0], -scale)
    torch.testing.assert_close(negated, base - scale * (a - base), rtol=1e-4, atol=1e-5)


def test_ties_on_an_example_worked_by_hand() -> None:
    """Algorithm 1 with three task vectors of five entries, of each of which the largest three are kept."""
    first = torch.tensor([3.0, -0.2, -2.0, 0.1, 1.0])
    second = torch.tensor([-1.0, 4.0, -3.0, 0.3, 0.2])
    third = torch.tensor([2.5, -5.0, 0.4, -0.3, 6.0])
    trimmed = [trim(first, 1.0), trim(second, 1.0), trim(third, 2.5)]
    assert trimmed[0].tolist() == [3.0, 0.0, -2.0, 0.0, 1.0]
    assert trimmed[1].tolist() == [-1.0, 4.0, -3.0, 0.0, 0.0]
    assert trimmed[2].tolist() == [2.5, -5.0, 0.0, 0.0, 6.0]
    equal = [1 / 3] * 3
    sign = elect(trimmed, equal)  # masses 4.5, −1, −5, 0, 7
    assert sign.tolist() == [1.0, -1.0, -1.0, 0.0, 1.0]
    assert disjoint_mean(trimmed, equal, sign).tolist() == pytest.approx([2.75, -5.0, -2.5, 0.0, 3.5])
    merged = ties([first, second, third], equal, [1.0, 1.0, 2.5])
    assert merged.tolist() == pytest.approx([2.75, -5.0, -2.5, 0.0, 3.5])


def test_ties_elects_by_total_magnitude_and_not_by_the_number_of_votes() -> None:
    tasks = [torch.tensor([1.0]), torch.tensor([1.0]), torch.tensor([-3.0])]
    assert ties(tasks, [1 / 3] * 3, [0.0] * 3).tolist() == [-3.0]


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_ties_of_equal_task_vectors_without_trimming_is_that_vector(seed: int) -> None:
    task = randn(seed, 17)
    torch.testing.assert_close(ties([task, task, task], [0.2, 0.3, 0.5], [0.0] * 3), task)


def test_dare_drops_its_share_and_keeps_the_expectation() -> None:
    task = torch.full((200_000,), 2.0)
    dropped = drop_and_rescale(task, 0.2, seed=3, name="w", parent=1)
    assert set(dropped.unique().tolist()) == {0.0, 10.0}
    kept = float((dropped != 0).float().mean())
    assert abs(kept - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 200_000)
    assert float(dropped.mean()) == pytest.approx(2.0, rel=0.03)
    assert mask(1000, 1.0, seed=0, name="w", parent=0).all()


@given(st.integers(0, 300), st.integers(1, 200), st.sampled_from([0.05, 0.5, 0.9]))
@settings(max_examples=50, deadline=None)
def test_a_dare_mask_is_the_same_however_the_tensor_is_sharded(
    start: int, count: int, density: float
) -> None:
    whole = mask(start + count, density, seed=7, name="layers.0.w", parent=2)
    assert torch.equal(mask(count, density, seed=7, name="layers.0.w", parent=2, start=start), whole[start:])


def test_dare_masks_depend_on_seed_name_and_parent_and_on_nothing_else() -> None:
    drawn = {
        key: tuple(mask(64, 0.5, seed=key[0], name=key[1], parent=key[2]).tolist())
        for key in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    }
    assert len(set(drawn.values())) == 4
    torch.manual_seed(123)
    assert tuple(mask(64, 0.5, seed=0, name="a", parent=0).tolist()) == drawn[0, "a", 0]


def test_neighbouring_dare_masks_are_uncorrelated() -> None:
    masks = torch.stack([mask(50_000, 0.5, seed=0, name="w", parent=i).float() - 0.5 for i in range(4)])
    correlation = (masks @ masks.T / 50_000 * 4).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 5 / math.sqrt(50_000)


@given(seeds, st.integers(1, 6), st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_regmean_without_shrinkage_is_least_squares_on_the_concatenated_data(
    seed: int, width: int, parents: int
) -> None:
    out = 3
    inputs = [randn(seed + i, 40, width).double() * (1 + i) for i in range(parents)]
    matrices = [randn(seed + 50 + i, out, width) for i in range(parents)]
    grams = [(x.T @ x / len(x)).float() for x in inputs]
    merged = regmean(matrices, grams, [1 / parents] * parents, alpha=1.0)
    targets = [x @ w.double().T for x, w in zip(inputs, matrices, strict=True)]
    solution = torch.linalg.lstsq(torch.cat(inputs), torch.cat(targets)).solution.T
    torch.testing.assert_close(merged.double(), solution, rtol=2e-3, atol=2e-3)


def test_regmean_with_only_the_diagonals_weighs_each_input_by_its_energy() -> None:
    matrices = [torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0, 5.0]])]
    grams = [torch.tensor([[3.0, 9.0], [9.0, 1.0]]), torch.tensor([[1.0, -7.0], [-7.0, 1.0]])]
    merged = regmean(matrices, grams, [0.5, 0.5], alpha=0.0)
    torch.testing.assert_close(merged, torch.tensor([[1.5, 3.0]]), rtol=1e-5, atol=1e-5)
    assert shrink_off_diagonal(grams[0], 0.9)[0].tolist() == pytest.approx([3.0, 8.1])


def test_regmean_averages_where_no_parent_ever_saw_an_input() -> None:
    gram = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    matrices = [torch.tensor([[1.0, 4.0]]), torch.tensor([[1.0, 8.0]])]
    torch.testing.assert_close(
        regmean(matrices, [gram, gram], [0.5, 0.5], 0.9), torch.tensor([[1.0, 6.0]]), rtol=1e-4, atol=1e-4
    )
    nothing = torch.zeros(2, 2)
    assert regmean(matrices, [nothing, nothing], [0.25, 0.75], 0.9).tolist() == [[1.0, 7.0]]


TENSORWISE = {
    name: method
    for name, method in merge_methods().items()
    if method.kind == "tensors" and method.most is None
}


@given(seeds, st.sampled_from(sorted(TENSORWISE)))
@settings(max_examples=60, deadline=None)
def test_merging_a_model_with_itself_gives_it_back(seed: int, name: str) -> None:
    base, model = randn(seed, 4, 6), randn(seed + 1, 4, 6)
    x = randn(seed + 2, 30, 6)
    inputs = MergeInputs([model] * 3, base, grams=[x.T @ x / 30] * 3)
    merged = merge(name, inputs, weight=[0.2, 0.3, 0.5], thresholds=[0.0] * 3)
    torch.testing.assert_close(merged, model, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name, method in TENSORWISE.items() if method.needs_base])
def test_a_method_of_task_vectors_refuses_to_work_without_a_base(name: str) -> None:
    with pytest.raises(ValueError, match="needs the base"):
        merge(name, MergeInputs([torch.ones(2)] * 2), thresholds=[0.0, 0.0])


@pytest.mark.parametrize("name", TENSORWISE)
def test_a_tensor_in_pieces_of_rows_is_merged_as_it_is_whole(name: str) -> None:
    base, *parents = (randn(seed, 6, 5) for seed in range(4))
    whole = MergeInputs(parents, base)
    numbers = {"weight": [0.2, 0.3, 0.5], "lambda": 1.3, "density": 0.5, "select_topk": 0.5}
    expected = merge(name, whole, thresholds=[0.3] * 3, **numbers)
    method = merge_methods()[name]
    parameters = parameters_of(name, 3, thresholds=[0.3] * 3, **numbers)
    surveyed = method.survey(TensorInMemory(whole), parameters)
    halves = [
        MergeInputs([parent[rows] for parent in parents], base[rows], start=rows.start * 5)
        for rows in (slice(0, 2), slice(2, 6))
    ]
    merged = torch.cat([method.merge(half, parameters, surveyed) for half in halves])
    assert torch.equal(merged, expected)
