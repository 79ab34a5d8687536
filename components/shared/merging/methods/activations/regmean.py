"""RegMean: the linear layer whose outputs are nearest to every parent's on that parent's own inputs.

Source: Jin et al., Dataless knowledge fusion by merging weights of language models, arXiv 2212.09849, eq. 2
and algorithm 1: W_M = (Σ Gᵢ)⁻¹ Σ Gᵢ Wᵢ with Gᵢ = XᵢᵀXᵢ, the off-diagonal entries of every Gᵢ multiplied by α
(§3.3, α ≈ 0.9 for decoders). Tensors that are not the weight of a linear layer are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def shrink_off_diagonal(rows: Tensor, alpha: float, first: int = 0) -> Tensor:
    """α·G + (1 − α)·diag(G) of rows of a G (in, in), which are overwritten with it.

    :param rows: (n, in), G's rows from `first` on.
    """
    diagonal = rows.diagonal(first).clone()
    rows.mul_(alpha)
    rows.diagonal(first).copy_(alpha * diagonal + (1 - alpha) * diagonal)
    return rows


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
    # Of a wide layer each square matrix is a gigabyte: there is one, column by column as LAPACK factors it in its place.
    where: dict[str, Any] = {"dtype": torch.float64, "device": matrices[0].device}
    gram = torch.zeros(columns, columns, **where).mT
    target = torch.zeros(rows, columns, **where)
    for matrix, own, weight in zip(matrices, grams, weights, strict=True):
        for at in range(0, columns, ROWS):
            inputs = slice(at, at + ROWS)
            shrunk = shrink_off_diagonal(own[inputs].to(**where, copy=True), alpha, at).mul_(weight)
            gram[inputs] += shrunk
            for outputs in _spans(rows):
                target[outputs] += matrix[outputs, inputs].double() @ shrunk
    mean, ridge = linear(matrices, weights), RIDGE * gram.diagonal().mean()
    if ridge == 0:  # no parent ever saw an input here: every matrix fits, and the mean is the natural one
        return mean
    gram.diagonal().add_(ridge)
    for outputs in _spans(rows):
        target[outputs] += mean[outputs].double().mul_(ridge)
    del mean
    factor = torch.linalg.cholesky(gram, out=gram)
    for outputs in _spans(rows):
        halfway = torch.linalg.solve_triangular(factor, target[outputs].T, upper=False)
        target[outputs] = torch.linalg.solve_triangular(factor.mT, halfway, upper=True).T
    return target.float()


def _spans(rows: int) -> list[slice]:
    """Runs of rows that are brought to float64 together."""
    return [slice(first, first + ROWS) for first in range(0, rows, ROWS)]


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
