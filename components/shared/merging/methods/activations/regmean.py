"""RegMean: the linear layer whose outputs are nearest to every parent's on that parent's own inputs.

Source: Jin et al., Dataless knowledge fusion by merging weights of language models, arXiv 2212.09849, eq. 2
and algorithm 1: W_M = (Σ Gᵢ)⁻¹ Σ Gᵢ Wᵢ with Gᵢ = XᵢᵀXᵢ, the off-diagonal entries of every Gᵢ multiplied by α
(§3.3, α ≈ 0.9 for decoders). Tensors that are not the weight of a linear layer are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...inputs import MergeInputs, MergeParameters
from ...method import LAMBDA, WEIGHT, Parameter, merge_method
from ..averages.linear import linear

# Inputs that no parent ever sees leave Σ Gᵢ singular. A ridge of this share of its mean diagonal, drawn
# towards the weighted mean of the parents, decides those directions and changes the others by about the same
# share.
RIDGE = 1e-8


ROWS = 1024
"""Rows of a matrix that are brought to float64 at a time."""


def shrink_off_diagonal(gram: Tensor, alpha: float) -> Tensor:
    """α·G + (1 − α)·diag(G) of a G (in, in) that is overwritten with it."""
    diagonal = gram.diagonal().clone()
    gram.mul_(alpha)
    gram.diagonal().copy_(alpha * diagonal + (1 - alpha) * diagonal)
    return gram


def regmean(
    matrices: Sequence[Tensor], grams: Sequence[Tensor], weights: Sequence[float], alpha: float
) -> Tensor:
    """argmin_W Σ wᵢ·‖Xᵢ Wᵀ − Xᵢ Wᵢᵀ‖² with shrunk Grams.

    Solved in float64 by Cholesky.

    :param matrices: N of (out, in), as torch.nn.Linear stores them.
    :param grams: N of (in, in), XᵢᵀXᵢ over i's inputs, each divided by its number of rows.
    :param weights: N numbers, how much each parent's data counts.
    :param alpha: the factor on the Grams' off-diagonals, in [0, 1].
    :returns: float32 (out, in).
    """
    rows, columns = matrices[0].shape
    gram = torch.zeros(columns, columns, dtype=torch.float64)
    target = torch.zeros(rows, columns, dtype=torch.float64)
    for matrix, own, weight in zip(matrices, grams, weights, strict=True):
        shrunk = shrink_off_diagonal(own.to(torch.float64, copy=True), alpha).mul_(weight)
        gram += shrunk
        for first in range(0, rows, ROWS):
            target[first : first + ROWS] += matrix[first : first + ROWS].double() @ shrunk
        del shrunk  # of a wide layer a gigabyte
    mean, ridge = linear(matrices, weights), RIDGE * gram.diagonal().mean()
    if ridge == 0:  # no parent ever saw an input here: every matrix fits, and the mean is the natural one
        return mean
    gram.diagonal().add_(ridge)
    target += mean.double().mul_(ridge)
    del mean
    factor = torch.linalg.cholesky(gram)
    del gram
    return torch.cholesky_solve(target.T, factor).T.float().contiguous()


@merge_method(
    "regmean",
    pretty_name="RegMean",
    paper="https://arxiv.org/abs/2212.09849",
    summary="linear layers fitted to what the parents' layers gave; needs their inputs' Gram matrices",
    parameters=(
        WEIGHT,
        Parameter("alpha", 0.9, "the factor on the Grams' off-diagonals", low=0.0, high=1.0, gene="alpha"),
        LAMBDA,
    ),
    base="optional",
    needs_grams=True,
)
def merge(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """The fitted layer; of a tensor that is no linear layer's weight the mean."""
    if inputs.grams is None:
        merged = linear(inputs.parents, parameters.weights)
    else:
        merged = regmean(inputs.parents, inputs.grams, parameters.weights, parameters["alpha"])
    if parameters["lambda"] == 1 or inputs.base is None:
        return merged
    return torch.lerp(inputs.base, merged, parameters["lambda"])
