"""NuSLERP: SLERP of two models or of their task vectors – row by row, column by column, or of the tensor as one vector.

Source: mergekit's `nuslerp` (G. Cyganov and C. Goddard, 2024, documentation): Ω is the angle between the vectors, and
the merge is (sin((1−t)Ω)·a + sin(tΩ)·b) / sin Ω with the vectors at their own lengths, t the second model's share of
the weights. More than two models are folded from the left. mergekit takes a tensor as one vector unless
`nuslerp_flatten` is false; without a say ours goes row by row, which is what `slerp` does not do. mergekit's
`nuslerp_row_wise` goes along the other dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...gram import gram_of_parents, gram_of_task_vectors
from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...method import LAMBDA, WEIGHT, Parameter, merge_method
from .linear import linear
from .slerp import coefficients

SMALL_SINE = 1e-8

FLATTEN = Parameter(
    "flatten", 0.0, "the tensor is one vector, as it is in mergekit", low=0.0, high=1.0,
    mergekit="nuslerp_flatten", mergekit_default=1.0, flag=1.0,
)  # fmt: skip
COLUMNS = Parameter(
    "columns", 0.0, "a vector is a column, in place of a row", low=0.0, high=1.0,
    mergekit="nuslerp_row_wise", flag=1.0,
)  # fmt: skip


def factors(t: float, aa: Tensor, ab: Tensor, bb: Tensor) -> tuple[Tensor, Tensor]:
    """sin((1−t)Ω)/sin Ω and sin(tΩ)/sin Ω of many pairs of vectors; 1 − t and t of those without a great circle.

    :param t: in [0, 1].
    :param aa: ⟨a,a⟩ of every pair.
    :param ab: ⟨a,b⟩.
    :param bb: ⟨b,b⟩.
    """
    length = (aa * bb).sqrt()
    cosine = torch.where(length > 0, ab / length.clamp_min(torch.finfo(length.dtype).tiny), 0.0).clamp(
        -1.0, 1.0
    )
    curved = (1 - cosine.square() > SMALL_SINE**2) & (length > 0)
    angle = torch.where(curved, cosine, 0.0).acos()
    keep, add = ((1 - t) * angle).sin() / angle.sin(), (t * angle).sin() / angle.sin()
    return torch.where(curved, keep, 1 - t), torch.where(curved, add, t)


def nuslerp(t: float, a: Tensor, b: Tensor) -> Tensor:
    """Row-wise SLERP at the rows' own lengths; rows without an angle (zero, parallel, opposite) in a straight line.

    :param t: in [0, 1].
    :param a: (..., n), a row is the last dimension.
    :param b: the same.
    :returns: float32 (..., n).
    """
    a, b = a.float(), b.float()
    if a.dim() == 0:
        return torch.lerp(a, b, t)
    products = [(x.double() * y.double()).sum(-1, keepdim=True) for x, y in ((a, a), (a, b), (b, b))]
    keep, add = factors(t, *products)
    return keep.float() * a + add.float() * b


def fold(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """NuSLERP of N tensors from the left; parents of weight 0 are passed over. Returns float32."""
    merged, total = tensors[0].float(), weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        if weight == 0:
            continue
        total += weight
        merged = nuslerp(weight / total, merged, tensor)
    return merged


def folded_columns(products: np.ndarray, weights: Sequence[float]) -> list[Tensor]:
    """Every parent's factor of every column. products: the Gram matrix (N, N, columns) of each, float64."""
    count, columns = len(weights), products.shape[-1]
    grams = torch.from_numpy(products)
    merged = torch.zeros(count, columns, dtype=torch.float64)
    merged[0], total = 1.0, weights[0]
    for index, weight in enumerate(weights[1:], 1):
        if weight == 0:
            continue
        total += weight
        across = (grams * merged).sum(1)  # ⟨θᵢ, merged⟩
        keep, add = factors(weight / total, (across * merged).sum(0), across[index], grams[index, index])
        merged = merged * keep
        merged[index] += add
    return list(merged.float())


def _vectors(inputs: MergeInputs) -> list[Tensor]:
    return inputs.parents if inputs.base is None else inputs.task_vectors()


def _column_products(inputs: MergeInputs) -> np.ndarray:
    rows = [vector.double().reshape(-1, vector.shape[-1]) for vector in _vectors(inputs)]
    stacked = torch.stack(rows)
    return np.asarray(torch.einsum("irc,jrc->ijc", stacked, stacked))


def survey(tensor: WholeTensor, parameters: MergeParameters) -> Sequence[Tensor | float] | None:
    """The factors of the parents: of the whole tensor, of every column; None where rows have their own."""
    if parameters["flatten"]:
        of_models = next(iter(tensor.map(lambda inputs: inputs.base is None)))
        products = gram_of_parents(tensor) if of_models else gram_of_task_vectors(tensor)
        return coefficients(products, parameters.weights)
    rows = sum(tensor.map(lambda inputs: inputs.parents[0].shape[:-1].numel()))
    if parameters["columns"] and rows > 1:  # a vector has no columns
        sums = list(tensor.map(_column_products))
        return folded_columns(np.sum(sums, axis=0), parameters.weights)
    return None


@merge_method(
    "nuslerp",
    pretty_name="NuSLERP",
    paper="https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md#nuslerp-nuslerp",
    summary="SLERP row by row; of the task vectors where a base is given",
    parameters=(WEIGHT, FLATTEN, COLUMNS, LAMBDA.but(mergekit="")),
    base="optional",
    whole_rows=True,
    fewest=2,
    survey=survey,
)
def merge(
    inputs: MergeInputs, parameters: MergeParameters, surveyed: Sequence[Tensor | float] | None
) -> Tensor:
    """The folded task vectors, added to the base; without one the folded models."""
    vectors = _vectors(inputs)
    if surveyed is None:
        merged = fold(vectors, parameters.weights)
    elif parameters["flatten"]:
        merged = linear(vectors, [float(factor) for factor in surveyed])
    else:
        merged = torch.stack([vector * factor for vector, factor in zip(vectors, surveyed, strict=True)]).sum(
            0
        )
    return merged if inputs.base is None else merged.mul_(parameters["lambda"]).add_(inputs.base)
