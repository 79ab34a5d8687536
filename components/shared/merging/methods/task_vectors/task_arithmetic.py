"""Task arithmetic: the base plus λ times the weighted sum of the task vectors.

Source: Ilharco et al., Editing models with task arithmetic, arXiv 2212.04089, §2.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...inputs import MergeInputs, MergeParameters
from ...method import LAMBDA, NORMALIZE_NOT_IN_MERGEKIT, WEIGHT, merge_method
from ..averages.linear import linear, weighted_sum


def task_arithmetic(
    base: Tensor, tensors: Sequence[Tensor], weights: Sequence[float], scale: float
) -> Tensor:
    """θ_base + λ·Σ wᵢ·(θᵢ − θ_base).

    :param base: of any shape.
    :param tensors: N of the same shape.
    :param weights: N numbers, used as they are.
    :param scale: λ.
    :returns: float32 of that shape.
    """
    base = base.float()
    step = linear([tensor.float() - base for tensor in tensors], weights)
    return base + scale * step


def add_weighted(inputs: MergeInputs, parameters: MergeParameters, task_vectors: list[Tensor]) -> Tensor:
    """Task arithmetic of task vectors that have been made sparse (or are as they were)."""
    step = weighted_sum(task_vectors, parameters.weights, normalize=bool(parameters["normalize"]))
    return step.mul_(parameters["lambda"]).add_(inputs.required_base)


@merge_method(
    "task_arithmetic",
    pretty_name="Task arithmetic",
    paper="https://arxiv.org/abs/2212.04089",
    summary="the base plus λ times the mean task vector; one λ to choose",
    # λ = 0.3 to 0.4 is for each of the summed task vectors (appendix B)
    parameters=(WEIGHT, LAMBDA.but(start=0.4, start_per_model=True), NORMALIZE_NOT_IN_MERGEKIT),
)
def merge(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """The base and the weighted task vectors."""
    return add_weighted(inputs, parameters, inputs.task_vectors())
