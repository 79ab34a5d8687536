"""Linear merging: the weighted mean of the parents; with equal weights the uniform model soup.

Source: Wortsman et al., Model soups, arXiv 2203.05482.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...inputs import MergeInputs, MergeParameters
from ...method import NORMALIZE, WEIGHT, merge_method

NO_WEIGHT = 1e-8  # weights that sum to less are not divided by


def linear(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ wᵢ·θᵢ, accumulated in float32 in one buffer.

    :param tensors: N tensors of one shape.
    :param weights: N numbers, used as they are.
    :returns: float32 of that shape.
    """
    total = tensors[0].float() * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total.add_(tensor.float(), alpha=weight)
    return total


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float], *, normalize: bool) -> Tensor:
    """Σ wᵢ·θᵢ, divided by Σ wᵢ where that is asked for and is not next to nothing.

    :param tensors: N tensors of one shape.
    :param weights: N numbers.
    :param normalize: whether to divide.
    :returns: float32 of that shape.
    """
    total, whole = linear(tensors, weights), sum(weights)
    if not normalize or abs(whole) <= NO_WEIGHT or np.float32(whole) == 1:
        return total
    return total.div_(whole)


@merge_method(
    "linear",
    pretty_name="Linear (model soup)",
    paper="https://arxiv.org/abs/2203.05482",
    summary="the weighted mean; with equal weights the uniform soup",
    parameters=(WEIGHT, NORMALIZE),
    base="unused",
)
def merge(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """The parents' weighted mean, or sum."""
    return weighted_sum(inputs.parents, parameters.weights, normalize=bool(parameters["normalize"]))
