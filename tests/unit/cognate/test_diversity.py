"""Distances between a variant and its trunk, against closed forms."""

import pytest
import torch

from components.cognate.diversity import disagreement, linear_cka, relative_distance


def test_the_distance_is_the_task_vectors_length_over_the_trunks():
    trunk = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    weights = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([[4.0]]), "gate": torch.tensor([9.0])}
    assert relative_distance(weights, trunk) == pytest.approx(1 / 5)


def test_cka_ignores_rotation_scale_and_shift():
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    assert linear_cka(x, 3 * x @ turn + 5) == pytest.approx(1.0, abs=1e-6)


def test_cka_of_independent_features_is_small_and_equals_the_kernel_form():
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)).double()
    y = torch.randn(200, 6, generator=torch.Generator().manual_seed(1)).double()
    centre = torch.eye(200) - 1 / 200  # HSIC of Kornblith et al. 2019, eq. 2, with linear kernels
    k, l = (centre.double() @ (m @ m.T) @ centre.double() for m in (x, y))
    hsic = (k * l).sum() / ((k * k).sum() * (l * l).sum()).sqrt()
    assert linear_cka(x, y) == pytest.approx(float(hsic), rel=1e-9)
    assert linear_cka(x, y) < 0.2


def test_disagreement_counts_positions_with_another_first_choice():
    assert disagreement(torch.tensor([0, 1, 0, 0]), torch.tensor([0, 0, 1, 0])) == 0.5
