"""SLERP: interpolation along the great circle between two weight vectors.

Source: Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985, §3.3; applied to flattened
weights. More than two parents are folded from the left, each step at the new parent's share of the weight so
far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...gram import gram, gram_of_parents
from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...method import WEIGHT, merge_method
from .linear import linear

# Where the angle is below this, sin(Ω) ≈ Ω and the arc is a straight line to within float32.
SMALL_ANGLE = 1e-4


def arc(t: float, aa: float, ab: float, bb: float) -> tuple[float, float]:
    """SLERP's two factors, sin((1−t)Ω)/sin Ω and sin(tΩ)/sin Ω; 1 − t and t where no great circle is defined.

    :param t: in [0, 1].
    :param aa: ⟨a,a⟩.
    :param ab: ⟨a,b⟩.
    :param bb: ⟨b,b⟩.
    """
    if aa <= 0 or bb <= 0:
        return 1 - t, t
    angle = math.acos(min(max(ab / math.sqrt(aa * bb), -1.0), 1.0))
    if angle < SMALL_ANGLE or math.pi - angle < SMALL_ANGLE:
        return 1 - t, t
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


def coefficients(products: np.ndarray, weights: Sequence[float]) -> list[float]:
    """The cᵢ with which Σ cᵢ·θᵢ is the SLERP of N tensors, folded from the left; models of weight 0 are passed over.

    :param products: Gram matrix (N, N), float64.
    :param weights: N numbers ≥ 0.
    :returns: N numbers.
    """
    unit = np.eye(len(weights))
    merged, total = unit[0], weights[0]
    for index, weight in enumerate(weights[1:], 1):
        if weight == 0:
            continue
        total += weight
        cross, length = products[index] @ merged, merged @ products @ merged
        keep, add = arc(weight / total, float(length), float(cross), float(products[index, index]))
        merged = keep * merged + add * unit[index]
    return merged.tolist()


def slerp(t: float, a: Tensor, b: Tensor) -> Tensor:
    """sin((1−t)Ω)/sin Ω · a + sin(tΩ)/sin Ω · b, Ω the angle between a and b as flat vectors.

    Where the vectors are parallel, opposite or one of them is zero, no great circle is defined, and the straight line is
    taken.

    :param t: in [0, 1].
    :param a: of any shape.
    :param b: of the same shape.
    :returns: float32 of that shape.
    """
    products = gram([a, b])
    return linear([a, b], arc(t, products[0, 0], products[0, 1], products[1, 1]))


def fold(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """SLERP of N tensors from the left; parents of weight 0 are passed over. Returns float32."""
    return linear(tensors, coefficients(gram(tensors), weights))


def survey(tensor: WholeTensor, parameters: MergeParameters) -> list[float]:
    """The factors of the parents."""
    return coefficients(gram_of_parents(tensor), parameters.weights)


@merge_method(
    "slerp",
    pretty_name="SLERP",
    paper="https://doi.org/10.1145/325165.325242",
    summary="along the great circle between two models: keeps the weights' length",
    parameters=(WEIGHT.but(mergekit="t"),),
    base="unused",
    fewest=2,
    survey=survey,
)
def merge(inputs: MergeInputs, parameters: MergeParameters, factors: list[float]) -> Tensor:
    """The parents times their factors."""
    return linear(inputs.parents, factors)
