"""Newton–Schulz beside the singular value decomposition and torch's own, and the dtype that it computes in."""

from __future__ import annotations

import pytest
import torch
from torch.optim import _muon

from components.shared.optim import muon
from components.shared.optim.muon import QUINTIC, STEPS, batches, fast_dtype, muon_step, orthogonalize


def through_the_svd(matrix: torch.Tensor) -> torch.Tensor:
    """What the iteration is exactly: its polynomial on the singular values, the vectors untouched."""
    u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    a, b, c = QUINTIC
    for _ in range(STEPS):
        s = a * s + b * s**3 + c * s**5
    return u * s @ vt


@pytest.mark.parametrize("shape", [(16, 16), (16, 48), (40, 56)])
def test_it_is_its_polynomial_on_the_singular_values(shape):
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    for matrix, ours in zip(matrices, orthogonalize(matrices, torch.float32), strict=True):
        assert torch.allclose(ours.double(), through_the_svd(matrix), atol=1e-4)


def test_all_singular_values_of_an_update_are_near_one():
    matrices = torch.randn(2, 24, 64, generator=torch.Generator().manual_seed(1)) * 1e-3
    values = torch.linalg.svdvals(orthogonalize(matrices, torch.float32))
    assert values.min() > 0.68
    assert values.max() < 1.2


def test_it_is_torchs_but_for_the_rounding_of_bfloat16():
    matrix = torch.randn(32, 80, generator=torch.Generator().manual_seed(2))
    theirs = _muon._zeropower_via_newtonschulz(matrix, QUINTIC, STEPS, 1e-7).float()
    for dtype in (torch.float32, torch.bfloat16):
        ours = orthogonalize(matrix[None], dtype)[0]
        assert ours.dtype == dtype
        assert (ours.float() - theirs).norm() < 0.03 * theirs.norm()


def test_a_matrix_of_zeros_stays_one():
    assert not orthogonalize(torch.zeros(1, 16, 16), torch.float32).any()


def test_a_cpu_computes_in_float32_and_a_gpu_in_bfloat16():
    assert fast_dtype(torch.device("cpu")) == "float32"
    assert {fast_dtype(torch.device(name)) for name in ("cuda", "mps")} == {"bfloat16"}


def test_matrices_of_one_shape_go_together_lying_or_standing_and_not_too_many(monkeypatch):
    monkeypatch.setattr(muon, "BATCH", 2 * 16 * 24)
    shapes = [(16, 24), (16, 16), (24, 16), (16, 24), (16, 16), (64, 64)]
    assert list(batches([torch.zeros(shape) for shape in shapes])) == [[0, 2], [3], [1, 4], [5]]


def test_a_matrix_moves_the_same_alone_and_in_company():
    def group(parameters):
        return {"params": parameters, "lr": 0.01, "weight_decay": 0.1, "dtype": "float32"}

    def moved(parameters):
        generator = torch.Generator().manual_seed(3)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        return parameters

    shapes = [(24, 16), (16, 24), (16, 16)]
    together = moved([torch.ones(shape) for shape in shapes])
    alone = moved([torch.ones(shape) for shape in shapes])
    idle = torch.ones(16, 24)
    muon_step(group([*together, idle]), state := {p: {} for p in [*together, idle]})
    for parameter in alone:
        muon_step(group([parameter]), {parameter: {}})
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert torch.equal(idle, torch.ones(16, 24))
    assert not state[idle]
