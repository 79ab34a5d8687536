"""TIES: trim each task vector, elect one sign per entry, average the entries that agree.

Source: Yadav et al., TIES-Merging: Resolving interference when merging models, arXiv 2306.01708, algorithm 1.
The paper trims the task vector of the whole model at once, so the threshold of a parent is found over all of
its tensors (`magnitude.threshold`) and handed to the function of one tensor. Weights other than equal
generalise the election and the mean; equal ones give the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from ... import kernels
from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...magnitude import threshold
from ...method import DENSITY, LAMBDA, NORMALIZE, WEIGHT, merge_method
from ..averages.linear import linear


def trim(task_vector: Tensor, threshold: float) -> Tensor:
    """Entries of magnitude below the threshold become 0 (algorithm 1, step 1)."""
    below = np.nextafter(np.float32(threshold), np.float32(-np.inf))  # hardshrink drops its bound, too
    return hardshrink(task_vector, float(below))


def elect(trimmed: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sign of the larger total magnitude, entry by entry: sgn(Σ wᵢ·τ̂ᵢ) (step 2). Returns −1, 0 or 1."""
    return linear(trimmed, weights).sign_()


def agreeing(trimmed: Sequence[Tensor], weights: Sequence[float], sign: Tensor) -> tuple[Tensor, Tensor]:
    """Σ wᵢ·τ̂ᵢ and Σ wᵢ over the non-zero entries that have the elected sign."""
    total, votes = torch.zeros_like(sign), torch.zeros_like(sign)
    for task_vector, weight in zip(trimmed, weights, strict=True):
        agrees = task_vector.sign().mul_(sign).relu_()  # 1 or 0; by arithmetic, ten times as fast as by masks
        total.addcmul_(task_vector, agrees, value=weight)
        votes.add_(agrees, alpha=weight)
    return total, votes


def disjoint_mean(trimmed: Sequence[Tensor], weights: Sequence[float], sign: Tensor) -> Tensor:
    """The weighted mean of the non-zero entries that have the elected sign (step 3); 0 where there is none."""
    total, votes = agreeing(trimmed, weights, sign)
    return total.div_(votes.clamp_min_(torch.finfo(votes.dtype).tiny))


def ties(task_vectors: Sequence[Tensor], weights: Sequence[float], thresholds: Sequence[float]) -> Tensor:
    """The merged task vector τ_m.

    :param task_vectors: N of one shape.
    :param weights: N numbers ≥ 0.
    :param thresholds: N magnitudes below which entries are trimmed.
    :returns: float32 of that shape.
    """
    trimmed = [
        trim(task.float(), threshold) for task, threshold in zip(task_vectors, thresholds, strict=True)
    ]
    return disjoint_mean(trimmed, weights, elect(trimmed, weights))


def add_elected(
    inputs: MergeInputs,
    parameters: MergeParameters,
    task_vectors: Sequence[Tensor],
    thresholds: Sequence[float] | None = None,
) -> Tensor:
    """Algorithm 1: what agrees with the elected signs, as its mean or sum, is added to the base.

    On the CPU in one pass (`kernels.add_elected`), elsewhere by the functions above. Both give the same bits.

    :param inputs: of the merge.
    :param parameters: of which weight, normalize and lambda are read.
    :param task_vectors: N of the base's shape.
    :param thresholds: N magnitudes below which entries are trimmed; None: they have been made sparse already.
    :returns: float32 of the base's shape.
    """
    if inputs.required_base.is_cpu:
        return compiled(inputs, parameters, task_vectors, thresholds)
    return in_torch(inputs, parameters, task_vectors, thresholds)


def in_torch(
    inputs: MergeInputs,
    parameters: MergeParameters,
    task_vectors: Sequence[Tensor],
    thresholds: Sequence[float] | None,
) -> Tensor:
    """`add_elected` for tensors that lie anywhere."""
    weights, trimmed = parameters.weights, list(task_vectors)
    if thresholds is not None:
        trimmed = [trim(task, least) for task, least in zip(task_vectors, thresholds, strict=True)]
    total, votes = agreeing(trimmed, weights, elect(trimmed, weights))
    if parameters["normalize"]:
        total.div_(votes.clamp_min_(torch.finfo(votes.dtype).tiny))
    return total.mul_(parameters["lambda"]).add_(inputs.required_base)


def compiled(
    inputs: MergeInputs,
    parameters: MergeParameters,
    task_vectors: Sequence[Tensor],
    thresholds: Sequence[float] | None,
) -> Tensor:
    """`add_elected` for tensors in the CPU's memory."""
    base = inputs.required_base.contiguous()
    merged = torch.empty(base.shape)
    kernels.add_elected(
        torch.stack([task.reshape(-1) for task in task_vectors]).numpy(),
        np.array(parameters.weights, np.float32),
        np.array([0.0] * len(task_vectors) if thresholds is None else thresholds, np.float32),
        bool(parameters["normalize"]),
        np.float32(parameters["lambda"]),
        base.view(-1).numpy(),
        merged.view(-1).numpy(),
    )
    return merged


def survey(tensor: WholeTensor, parameters: MergeParameters) -> list[float]:
    """Each parent's threshold: over its whole task vector, or that of this tensor, with mergekit's rounding."""
    if parameters.thresholds is not None:
        return list(parameters.thresholds)
    densities = parameters.each("density")
    return tensor.each_parent(
        lambda parent: threshold(lambda: tensor.task_vector(parent), densities[parent], down=True)
    )


@merge_method(
    "ties",
    pretty_name="TIES",
    paper="https://arxiv.org/abs/2306.01708",
    summary="small changes dropped, signs elected",
    parameters=(WEIGHT, DENSITY.but(start=0.2), LAMBDA, NORMALIZE),  # 20% at λ = 1: §5
    trims_model=True,
    survey=survey,
)
def merge(inputs: MergeInputs, parameters: MergeParameters, thresholds: list[float]) -> Tensor:
    """Algorithm 1 for one tensor."""
    return add_elected(inputs, parameters, inputs.task_vectors(), thresholds)
