"""What the methods' parameters mean, whatever the method: λ, density, and which genes are read."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from components.evomerge.search.genome import Genome
from components.evomerge.search.space import SearchSpace
from components.shared.merging.inputs import MergeInputs
from components.shared.merging.methods.task_vectors.della import fitted_epsilon, keep_probabilities
from components.shared.merging.registry import merge_method, merge_methods
from tests.unit.shared.merging.tensors import merge

METHODS = ("karcher", "model_stock", "breadcrumbs", "della", "sce")
SPACE = SearchSpace(parents=3, groups=2, methods=METHODS)


def inputs(count: int = 3) -> MergeInputs:
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(24, 40, generator=generator)

    base = draw()
    return MergeInputs([base + 0.1 * draw() for _ in range(count)], base)


@pytest.mark.parametrize(
    "method",
    [
        name
        for name, method in merge_methods().items()
        if method.kind == "tensors" and method.parameter("lambda")
    ],
)
def test_lambda_is_the_length_of_the_step_from_the_base(method: str) -> None:
    models = inputs()
    numbers = {"density": 0.5, "select_topk": 0.5, "thresholds": [0.05] * 3, "seed": 1}
    whole = merge(method, models, **numbers) - models.required_base
    half = merge(method, models, **numbers, **{"lambda": 0.5}) - models.required_base
    assert whole.abs().max() > 0
    torch.testing.assert_close(half, whole / 2, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("density", [0.05, 0.5, 0.95, 1.0])
def test_della_keeps_the_expectation_at_every_density(density: float) -> None:
    models = inputs(1)
    task = models.parents[0] - models.required_base
    draws = [merge("della", models, density=density, seed=seed) - models.required_base for seed in range(200)]
    mean = torch.stack(draws).mean(0)
    # sign election leaves one model's entries as they are; the mean of draws has the standard error of its entries
    assert float((mean - task).mean().abs()) < 0.01
    assert float(torch.dot(mean.flatten(), task.flatten()) / task.square().sum()) == pytest.approx(
        1, abs=0.05
    )


@pytest.mark.parametrize("density", [0.01, 0.15, 0.3, 0.5, 0.85, 0.97, 1.0])
def test_dellas_window_is_mergekits_and_narrower_only_where_the_density_leaves_no_room(
    density: float,
) -> None:
    parameter = merge_method("della").parameter("epsilon")
    assert parameter is not None and parameter.default == 0.15  # mergekit's
    epsilon = fitted_epsilon(density, parameter.default)
    if 0.15 < density <= 0.85:
        assert epsilon == 0.15
    keep = keep_probabilities(torch.randn(3, 11), density, epsilon)
    assert float(keep.min()) > 0 and float(keep.max()) <= 1
    assert float(keep.mean()) == pytest.approx(density, abs=1e-6)


def test_breadcrumbs_drop_the_outliers_and_the_small_ones() -> None:
    models = inputs(1)
    task = (models.parents[0] - models.required_base).abs()
    kept = (merge("breadcrumbs", models, density=0.3) - models.required_base).abs() > 1e-6
    assert int(kept.sum()) == pytest.approx(0.3 * task.numel(), abs=2)
    assert not kept[task == task.max()].any() and not kept[task == task.min()].any()


@pytest.mark.parametrize("method", METHODS)
def test_genes_that_a_method_does_not_read_make_no_other_genome(method: str) -> None:
    genome = Genome(method, ((1, 2, 3), (3, 1, 1)), scales=(20, 10), density=5)
    other = Genome(method, ((2, 1, 1), (1, 1, 5)), scales=(20, 10), density=5)
    same = SPACE.canonical(genome) == SPACE.canonical(other)
    assert same == ("weights" not in merge_method(method).genes)
