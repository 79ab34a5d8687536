"""Karcher, model stock, Breadcrumbs, DELLA and SCE as the search uses them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from components.evomerge.search.genome import Genome
from components.evomerge.search.space import Space
from components.shared.merging.methods import GENES, METHODS, Dials, Parts

NEW = ("karcher", "model_stock", "breadcrumbs", "della", "sce")
SPACE = Space(parents=3, groups=2, methods=NEW)


def parts(count: int = 3) -> Parts:
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        return torch.randn(24, 40, generator=generator)

    base = draw()
    parents = [base + 0.1 * draw() for _ in range(count)]
    return Parts("w", base, parents, [1 / count] * count, list(range(count)))


@pytest.mark.parametrize("method", ["model_stock", "breadcrumbs", "della", "sce"])
def test_lambda_is_the_length_of_the_step_from_the_base(method: str) -> None:
    given, merge = parts(), METHODS[method].merge
    whole = merge(given, Dials(density=0.5, scale=1.0, seed=1)) - given.origin
    half = merge(given, Dials(density=0.5, scale=0.5, seed=1)) - given.origin
    assert whole.abs().max() > 0
    torch.testing.assert_close(half, whole / 2, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("density", [0.05, 0.5, 0.95, 1.0])
def test_della_keeps_the_expectation_at_every_density(density: float) -> None:
    given = parts(1)
    task = given.parents[0] - given.origin
    merged = [
        METHODS["della"].merge(given, Dials(density=density, seed=seed)) - given.origin for seed in range(200)
    ]
    mean = torch.stack(merged).mean(0)
    # sign election leaves one model's entries as they are; the mean of draws has the standard error of its entries
    assert float((mean - task).mean().abs()) < 0.01
    assert float(torch.dot(mean.flatten(), task.flatten()) / task.square().sum()) == pytest.approx(
        1, abs=0.05
    )


def test_breadcrumbs_drop_the_outliers_and_the_small_ones() -> None:
    given = parts(1)
    task = (given.parents[0] - given.origin).abs()
    merged = (METHODS["breadcrumbs"].merge(given, Dials(density=0.3)) - given.origin).abs() > 1e-6
    assert int(merged.sum()) == pytest.approx(0.3 * task.numel(), abs=2)
    assert not merged[task == task.max()].any() and not merged[task == task.min()].any()


@pytest.mark.parametrize("method", NEW)
def test_genes_that_a_method_does_not_read_make_no_other_genome(method: str) -> None:
    one = Genome(method, ((1, 2, 3), (3, 1, 1)), scales=(20, 10), density=5)
    other = Genome(method, ((2, 1, 1), (1, 1, 5)), scales=(20, 10), density=5)
    assert (SPACE.canonical(one) == SPACE.canonical(other)) == ("weights" not in GENES[method])
