"""RegMean: the linear layer whose outputs are nearest to every parent's on that parent's own inputs.

Source: Jin et al., Dataless knowledge fusion by merging weights of language models, arXiv 2212.09849, eq. 2
and algorithm 1: W_M = (Σ Gᵢ)⁻¹ Σ Gᵢ Wᵢ with Gᵢ = XᵢᵀXᵢ, the off-diagonal entries of every Gᵢ multiplied by α
(§3.3, α ≈ 0.9 for decoders). Tensors that are not the weight of a linear layer are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...inputs import Dials, Method, Parts
from ..averages.linear import linear

# Inputs that no parent ever sees leave Σ Gᵢ singular. A ridge of this share of its mean diagonal, drawn
# towards the weighted mean of the parents, decides those directions and changes the others by about the same
# share.
RIDGE = 1e-8


def shrink_off_diagonal(gram: Tensor, alpha: float) -> Tensor:
    """α·G + (1 − α)·diag(G). (in, in) → (in, in)."""
    return alpha * gram + (1 - alpha) * torch.diag(gram.diagonal())


def regmean(
    matrices: Sequence[Tensor], grams: Sequence[Tensor], weights: Sequence[float], alpha: float
) -> Tensor:
    """argmin_W Σ wᵢ·‖Xᵢ Wᵀ − Xᵢ Wᵢᵀ‖² with shrunk Grams.

    matrices: N of (out, in), as torch.nn.Linear stores them; grams: N of (in, in), XᵢᵀXᵢ over i's inputs,
    each divided by its number of rows; weights: how much each parent's data counts. Solved in float64 by
    Cholesky; returns float32 (out, in).
    """
    mean = linear(matrices, weights).double()
    gram = torch.zeros(mean.shape[1], mean.shape[1], dtype=torch.float64)
    target = torch.zeros_like(mean)
    for matrix, own, weight in zip(matrices, grams, weights, strict=True):
        shrunk = shrink_off_diagonal(own.double(), alpha) * weight
        gram += shrunk
        target += matrix.double() @ shrunk
    ridge = RIDGE * gram.diagonal().mean()
    if ridge == 0:  # no parent ever saw an input here: every matrix fits, and the mean is the natural one
        return mean.float()
    gram.diagonal().add_(ridge)
    target += ridge * mean
    return torch.cholesky_solve(target.T, torch.linalg.cholesky(gram)).T.float().contiguous()


def merge(parts: Parts, dials: Dials) -> Tensor:
    if parts.grams is None:
        merged = linear(parts.parents, parts.weights)
    else:
        merged = regmean(parts.parents, parts.grams, parts.weights, dials.alpha)
    if dials.scale == 1 or parts.base is None:
        return merged
    return torch.lerp(parts.base, merged, dials.scale)


METHOD = Method(
    name="regmean",
    pretty_name="RegMean",
    reference="https://arxiv.org/abs/2212.09849",
    genes=frozenset({"weights", "alpha", "scales"}),
    needs_base=False,
    needs_grams=True,
    merge=merge,
)
