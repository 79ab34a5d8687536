"""NuSLERP: SLERP of the task vectors, row by row, each row's length interpolated linearly.

Source: mergekit's `nuslerp` (G. Cyganov and C. Goddard, 2024, documentation): the directions of the
differences from the base are interpolated on the sphere, so that the merged step keeps the parents' length
where plain averaging of nearly orthogonal task vectors would shorten it. mergekit applies the two sines to the rows as they
are, so that a row's length between two of different lengths is not between them; ours is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...inputs import MergeInputs, MergeParameters
from ...method import LAMBDA, WEIGHT, merge_method

SMALL_SINE = 1e-4


def nuslerp(t: float, a: Tensor, b: Tensor) -> Tensor:
    """Row-wise SLERP of directions with linearly interpolated row norms.

    Rows without a direction (zero, parallel or opposite) are interpolated in a straight line.

    :param t: in [0, 1].
    :param a: (..., n), a row is the last dimension.
    :param b: the same.
    :returns: float32 (..., n).
    """
    a, b = a.float(), b.float()
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    tiny = torch.finfo(torch.float32).tiny
    unit_a, unit_b = a / length_a.clamp_min(tiny), b / length_b.clamp_min(tiny)
    angle = (unit_a * unit_b).sum(-1, keepdim=True).clamp(-1.0, 1.0).acos()
    sine = angle.sin()
    curved = (sine > SMALL_SINE) & (length_a > 0) & (length_b > 0)
    safe = torch.where(curved, sine, torch.ones_like(sine))
    direction = (unit_a * ((1 - t) * angle).sin() + unit_b * (t * angle).sin()) / safe
    return torch.where(curved, direction * torch.lerp(length_a, length_b, t), torch.lerp(a, b, t))


def fold(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """NuSLERP of N tensors from the left; parents of weight 0 are passed over. Returns float32."""
    merged, total = tensors[0].float(), weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        if weight == 0:
            continue
        total += weight
        merged = nuslerp(weight / total, merged, tensor)
    return merged


@merge_method(
    "nuslerp",
    pretty_name="NuSLERP",
    paper="https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md#nuslerp-nuslerp",
    summary="SLERP row by row; of the task vectors where a base is given",
    parameters=(WEIGHT, LAMBDA.but(mergekit="")),
    base="optional",
    whole_rows=True,
    mergekit_differs="ours interpolates the lengths of the rows, mergekit's follows from those of the models",
)
def merge(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """The folded task vectors, added to the base; without one the folded models."""
    if inputs.base is None:
        return fold(inputs.parents, parameters.weights)
    return fold(inputs.task_vectors(), parameters.weights).mul_(parameters["lambda"]).add_(inputs.base)
