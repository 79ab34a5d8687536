"""Merge methods against what is known to be best: optima, expectations, closed forms, examples worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.merging.gram import gram
from components.shared.merging.magnitude import nth_largest
from components.shared.merging.methods.activations.fisher import fisher, information
from components.shared.merging.methods.averages.karcher import coefficients, karcher
from components.shared.merging.methods.averages.model_stock import model_stock, ratio
from components.shared.merging.methods.averages.slerp import fold, slerp
from components.shared.merging.methods.task_vectors.breadcrumbs import crumbs, limits, ranks
from components.shared.merging.methods.task_vectors.della import keep_probabilities, magprune
from components.shared.merging.methods.task_vectors.sce import fuse, sce

seeds = st.integers(0, 2**31 - 1)


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(seeds, st.floats(0.01, 0.99))
@settings(max_examples=30, deadline=None)
def test_the_karcher_mean_of_two_is_slerp_with_the_mean_length(seed: int, t: float) -> None:
    a, b = randn(seed, 4, 5), randn(seed + 1, 4, 5)
    expected = slerp(t, a / a.norm(), b / b.norm()) * ((1 - t) * a.norm() + t * b.norm())
    torch.testing.assert_close(karcher([a, b], [1 - t, t]), expected, rtol=1e-4, atol=1e-5)


@given(seeds, st.integers(3, 6))
@settings(max_examples=20, deadline=None)
def test_no_point_near_the_karcher_mean_has_a_smaller_sum_of_squared_arcs(seed: int, count: int) -> None:
    middle = randn(seed, 8)
    tensors = [middle + 0.6 * randn(seed + i, 8) for i in range(1, count + 1)]
    weights = [float(i + 1) for i in range(count)]
    units = torch.stack([tensor / tensor.norm() for tensor in tensors]).double()

    def cost(point: torch.Tensor) -> float:
        arcs = (units @ (point / point.norm())).clamp(-1, 1).acos()
        return float((torch.tensor(weights).double() * arcs.square()).sum())

    mean = karcher(tensors, weights).double()
    least = cost(mean)
    for evaluator in range(30):
        assert cost(mean / mean.norm() + 0.02 * randn(seed + 100 + evaluator, 8)) > least
    length = sum(w * float(tensor.norm()) for w, tensor in zip(weights, tensors, strict=True)) / sum(weights)
    assert float(mean.norm()) == pytest.approx(length, rel=1e-5)


def test_the_karcher_mean_depends_on_no_order_where_folded_slerp_does() -> None:
    tensors = [randn(i, 30) for i in range(3)]
    torch.testing.assert_close(karcher(tensors, [1, 2, 3]), karcher(tensors[::-1], [3, 2, 1]))
    assert not torch.allclose(fold(tensors, [1, 2, 3]), fold(tensors[::-1], [3, 2, 1]), atol=1e-3)


def test_the_karcher_mean_of_the_axes_is_the_diagonal_and_passes_over_what_has_no_direction() -> None:
    axes = list(torch.eye(3) * 2)
    torch.testing.assert_close(karcher(axes, [1, 1, 1]), torch.full((3,), 2 / math.sqrt(3)))
    merged = karcher([torch.tensor([0.0, 3.0]), torch.zeros(2)], [2, 1])
    torch.testing.assert_close(merged, torch.tensor([0.0, 2.0]))  # the length is averaged over both
    assert karcher([torch.zeros(2)] * 2, [1, 1]).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="opposite"):
        coefficients(gram([axes[0], -axes[0]]), [1, 1])


def test_model_stock_finds_the_best_point_between_base_and_mean() -> None:
    """Models at equal distances around a centre, at right angles to each other and to the way there (§3 of the paper):
    no other t brings the interpolation nearer to that centre."""
    count, size = 4, 60
    q = torch.linalg.qr(randn(3, size, count + 1).double()).Q.T
    base = randn(5, size).double()
    centre = base + 3.0 * q[0]
    models = [(centre + 2.0 * q[i + 1]).float() for i in range(count)]
    mean = torch.stack(models).double().mean(0)
    distance = [float((base + t * (mean - base) - centre).norm()) for t in np.linspace(0, 1, 1001)]
    best = np.linspace(0, 1, 1001)[int(np.argmin(distance))]
    computed = ratio(gram([model - base.float() for model in models]))
    assert computed == pytest.approx(best, abs=1e-3)
    assert computed == pytest.approx(9 / (9 + 4 / count), rel=1e-5)
    merged = model_stock(base.float(), models)
    torch.testing.assert_close(merged.double(), base + computed * (mean - base), rtol=1e-4, atol=1e-4)


def test_model_stock_of_equal_models_is_that_model_and_of_strangers_the_base() -> None:
    base, model = randn(0, 9), randn(1, 9)
    torch.testing.assert_close(model_stock(base, [model, model]), model)
    assert torch.equal(model_stock(base, [base + model, base - model]), base)
    with pytest.raises(ValueError, match="two or more"):
        ratio(np.ones((1, 1)))


@pytest.mark.parametrize(("count", "cosine", "t"), [(2, -0.2, -0.5), (3, -0.1, -0.375), (2, -1.0, 0.0)])
def test_model_stock_steps_behind_the_base_where_models_point_away_from_each_other(
    count: int, cosine: float, t: float
) -> None:
    products = np.full((count, count), cosine) + (1 - cosine) * np.eye(count)
    assert ratio(4 * products) == pytest.approx(t)


def test_breadcrumbs_on_an_example_worked_by_hand() -> None:
    task = torch.tensor([9.0, -0.1, 3.0, -8.0, 0.2, 5.0, -4.0, 0.3, 1.0, -2.0])
    low, high = limits(
        lambda: [task[:3], task[3:]], density=0.5, gamma=0.2
    )  # without the largest two: 5, 4, 3, 2, 1
    assert (low, high) == (1.0, 5.0)
    assert crumbs(task, low, high).tolist() == [0, 0, 3.0, 0, 0, 5.0, -4.0, 0, 1.0, -2.0]


@given(st.integers(1, 5000), st.floats(0.01, 1.0), st.floats(0.0, 0.5))
def test_breadcrumbs_keep_their_density_and_outliers_give_way_to_it(
    n: int, density: float, gamma: float
) -> None:
    first, last = ranks(n, density, gamma)
    assert 1 <= first <= last <= n
    assert last - first + 1 == max(1, math.floor(density * n))
    assert first - 1 <= gamma * n
    assert ranks(n, 1.0, gamma) == (1, n)


@given(seeds, st.integers(1, 300), st.data())
@settings(max_examples=30, deadline=None)
def test_the_nth_largest_magnitude_is_that_of_the_sorted_vector(
    seed: int, count: int, data: st.DataObject
) -> None:
    tensor = randn(seed, count)
    rank = data.draw(st.integers(1, count))
    expected = float(tensor.abs().sort(descending=True).values[rank - 1])
    assert nth_largest(lambda: tensor.split(7), rank) == expected


def test_della_keeps_large_entries_more_often_and_the_expectation() -> None:
    task = torch.tensor([[0.1, -3.0, 1.0, -0.2, 2.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    keep = keep_probabilities(task, 0.5, 0.2)
    torch.testing.assert_close(keep[0], torch.tensor([0.3, 0.7, 0.5, 0.4, 0.6]))
    torch.testing.assert_close(keep[1], torch.tensor([0.7, 0.6, 0.5, 0.4, 0.3]))
    draws = torch.stack([magprune(task, 0.5, 0.2, seed=s, name="w", parent=0) for s in range(4000)])
    assert torch.allclose(draws.mean(0), task, atol=0.3, rtol=0.08)
    kept = (draws != 0).float().mean(0)
    torch.testing.assert_close(kept, keep, atol=0.04, rtol=0)


def test_della_without_a_window_is_dare_and_is_the_same_however_its_rows_are_cut() -> None:
    from components.shared.merging.methods.task_vectors.dare import drop_and_rescale

    task, key = randn(0, 12, 50), {"seed": 3, "name": "w", "parent": 1}
    torch.testing.assert_close(magprune(task, 0.4, 0.0, **key), drop_and_rescale(task, 0.4, **key))
    whole = magprune(task, 0.4, 0.1, **key)
    parts = [magprune(task[i : i + 5], 0.4, 0.1, start=i * 50, **key) for i in range(0, 12, 5)]
    assert torch.equal(torch.cat(parts), whole)
    with pytest.raises(ValueError, match="must lie in"):
        magprune(task, 0.1, 0.2, **key)


def test_sce_on_an_example_worked_by_hand() -> None:
    a, b = torch.tensor([4.0, 1.0, 0.0, 2.0]), torch.tensor([-2.0, 1.0, 1.0, 0.0])
    # variances 9, 0, .25, 1: of the three above 0, τ = 2/3 selects the first and the last
    merged = sce([a, b], 0.7)
    # energies 16 + 4 and 4, weights 5/6 and 1/6; the first entry's sum is positive, so b is erased there
    assert merged.tolist() == pytest.approx([4.0, 0.0, 0.0, 2.0])
    whole = sce([a, b], 1.0)  # energies 21 and 6
    assert whole.tolist() == pytest.approx([4.0, 1.0, 1.0, 2.0])
    both = fuse([torch.tensor([1.0]), torch.tensor([3.0])], [0.25, 0.75])
    assert both.tolist() == pytest.approx([2.5])


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_fisher_merging_of_gaussians_maximises_their_joint_likelihood(seed: int) -> None:
    tensors = [randn(seed + i, 6) for i in range(3)]
    precisions = [randn(seed + 10 + i, 6).square() + 0.1 for i in range(3)]
    weights = [0.2, 0.5, 0.3]

    def cost(point: torch.Tensor) -> float:
        return sum(
            w * float((f * (point - t).square()).sum())
            for w, f, t in zip(weights, precisions, tensors, strict=True)
        )

    merged = fisher(tensors, precisions, weights)
    for evaluator in range(20):
        assert cost(merged + 0.05 * randn(seed + 50 + evaluator, 6)) > cost(merged)


def test_fisher_merging_averages_what_no_model_knows_about() -> None:
    merged = fisher([torch.tensor([1.0]), torch.tensor([4.0])], [torch.zeros(1)] * 2, [1.0, 2.0])
    assert merged.tolist() == pytest.approx([3.0])


def test_fisher_merging_of_linear_regressions_with_exact_information_is_the_joint_fit() -> None:
    """One input a column, so that the Fisher information is diagonal: the merge is least squares on all the data."""
    columns = [[0, 1, 2] * n for n in (5, 40)]
    fits, informations, products = [], [], torch.zeros(2, 3)
    for model, (own, scale) in enumerate(zip(columns, (1.0, 3.0), strict=True)):
        x = torch.eye(3)[own] * scale
        y = x @ torch.tensor([1.0, -2.0, 0.5]) + randn(model, len(own))
        layer = torch.nn.Linear(3, 1, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.linalg.lstsq(x, y[:, None]).solution.T)
        # log p(ŷ | x) of a drawn ŷ = prediction ± 1: the gradient's square is x², its expectation
        computed = information(layer, list(x), lambda row, layer=layer: layer(row)[0] * 1.0)["weight"]
        torch.testing.assert_close(computed, x.square().mean(0, keepdim=True))
        fits.append(layer.weight.detach())
        informations.append(computed)
        products[0] += x.T @ y
        products[1] += x.square().sum(0)
    sizes = [float(len(own)) for own in columns]
    torch.testing.assert_close(
        fisher(fits, informations, sizes, floor=0.0)[0], products[0] / products[1], rtol=1e-4, atol=1e-4
    )
