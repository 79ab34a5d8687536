"""Karcher mean: the point of the sphere with the least sum of squared arcs to the models.

Source: Karcher, Riemannian center of mass and mollifier smoothing, Comm. Pure Appl. Math. 30 (1977), §1; the fixed point
x ← Exp_x(Σ wᵢ·Log_x(uᵢ)) on the unit sphere, uᵢ = θᵢ/‖θᵢ‖. The mean's length is the weighted mean of the models' lengths.
For two models it is SLERP; for more it depends on no order, which folded SLERP does.

All the iterates lie in the span of the models, so that the iteration is done on their coefficients (gram.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...gram import gram, gram_of_parents, lengths
from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...method import WEIGHT, merge_method
from .linear import linear

ITERATIONS = 1000
TOLERANCE = 1e-12  # of the step, in radians


def coefficients(products: np.ndarray, weights: Sequence[float]) -> list[float]:
    """The cᵢ with which Σ cᵢ·θᵢ is the Karcher mean.

    A model of length 0 has no direction: it counts for the length alone. Where the models cancel each other out, the
    search starts at the first.

    :param products: Gram matrix (N, N), float64.
    :param weights: N numbers ≥ 0, not all 0, read relative to their sum.
    :returns: N numbers.
    :raises ValueError: two models are exactly opposite on the way, which leaves no mean.
    """
    shares = np.asarray(weights, dtype=np.float64) / sum(weights)
    norms = lengths(products)
    length = float(shares @ norms)
    some = (norms > 0) & (shares > 0)
    if not some.any():
        return shares.tolist()
    own = np.where(some, shares, 0) / shares[some].sum()
    scale = np.where(some, norms, 1)
    angles = products / np.outer(scale, scale)
    point = own.copy()
    if point @ angles @ point < TOLERANCE**2:
        point = np.eye(len(own))[int(some.argmax())]
    point /= np.sqrt(point @ angles @ point)
    for _ in range(ITERATIONS):
        cosine = np.clip(angles @ point, -1, 1)
        arc = np.where(some, np.arccos(cosine), 0)
        if (np.pi - arc < 1e-9).any():
            raise ValueError("models that are exactly opposite have no Karcher mean")
        pull = own * np.where(arc > 0, arc / np.where(arc > 0, np.sin(arc), 1), 1)
        tangent = pull - (pull @ cosine) * point
        step = float(np.sqrt(max(tangent @ angles @ tangent, 0)))
        if step < TOLERANCE:
            break
        point = np.cos(step) * point + np.sin(step) / step * tangent
        point /= np.sqrt(point @ angles @ point)
    return (length * point / scale).tolist()


def karcher(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The Karcher mean of N tensors of one shape, as flat vectors. Returns float32."""
    return linear(tensors, coefficients(gram(tensors), weights))


def survey(tensor: WholeTensor, parameters: MergeParameters) -> list[float]:
    """The factors of the parents."""
    return coefficients(gram_of_parents(tensor), parameters.weights)


@merge_method(
    "karcher",
    pretty_name="Karcher mean",
    paper="https://doi.org/10.1002/cpa.3160300502",
    summary="SLERP for any number of models, in no order",
    parameters=(WEIGHT.but(mergekit="", mergekit_required=False),),
    base="unused",
    survey=survey,
)
def merge(inputs: MergeInputs, parameters: MergeParameters, factors: list[float]) -> Tensor:
    """The parents times their factors."""
    return linear(inputs.parents, factors)
