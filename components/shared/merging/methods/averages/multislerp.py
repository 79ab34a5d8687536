"""Multi-SLERP: several models interpolated on the sphere in one step, in the tangent space at their mean.

Source: C. Goddard, Multi-SLERP (2025, goddard.blog): with uᵢ = θᵢ/‖θᵢ‖ and shares wᵢ, m is the direction of Σ wᵢ·uᵢ,
and the merge is Exp_m(Σ wᵢ·(uᵢ − ⟨uᵢ,m⟩·m)), at the weighted mean of the lengths. It is the first step of the Karcher
mean's iteration with chords in place of arcs. All of it stays in the span of the models, so that it is done on
coefficients (gram.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...gram import gram_of_parents, gram_of_task_vectors, lengths
from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...method import LAMBDA, NORMALIZE, WEIGHT, merge_method
from .linear import linear

NOTHING = 1e-8


def coefficients(products: np.ndarray, weights: Sequence[float]) -> list[float]:
    """The cᵢ with which Σ cᵢ·θᵢ is the merge. Models that cancel each other out are averaged in a straight line.

    :param products: Gram matrix (N, N), float64.
    :param weights: N numbers, used as they are.
    """
    shares, norms = np.asarray(weights, dtype=np.float64), lengths(products)
    scale = np.where(norms > 0, norms, 1)
    angles = products / np.outer(scale, scale)
    point = np.where(norms > 0, shares, 0)
    size = np.sqrt(max(point @ angles @ point, 0))
    if size < NOTHING:
        return shares.tolist()
    mean = point / size
    tangent = point - float(point @ (angles @ mean)) * mean
    step = np.sqrt(max(tangent @ angles @ tangent, 0)) + NOTHING
    moved = np.cos(step) * mean + np.sin(step) / step * tangent
    merged: list[float] = (float(shares @ norms) * moved / scale).tolist()
    return merged


def survey(tensor: WholeTensor, parameters: MergeParameters) -> list[float]:
    """The factors of the parents."""
    of_models = next(iter(tensor.map(lambda inputs: inputs.base is None)))
    products = gram_of_parents(tensor) if of_models else gram_of_task_vectors(tensor)
    weights = parameters.weights
    whole = sum(weights) if parameters["normalize"] else 1.0
    return coefficients(products, [weight / whole for weight in weights])


@merge_method(
    "multislerp",
    pretty_name="Multi-SLERP",
    paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    summary="several models on the sphere in one step; of the task vectors where a base is given",
    parameters=(WEIGHT, NORMALIZE.but(mergekit="normalize_weights"), LAMBDA.but(mergekit="")),
    base="optional",
    searched=False,
    survey=survey,
)
def merge(inputs: MergeInputs, parameters: MergeParameters, factors: list[float]) -> Tensor:
    """The models, or their task vectors on top of the base, times their factors."""
    if inputs.base is None:
        return linear(inputs.parents, factors)
    return linear(inputs.task_vectors(), factors).mul_(parameters["lambda"]).add_(inputs.base)
