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

from ...inputs import Dials, Method, Parts

SMALL_SINE = 1e-4


def nuslerp(t: float, a: Tensor, b: Tensor) -> Tensor:
    """Row-wise SLERP of directions with linearly interpolated row norms.

    t: in [0, 1]; a, b: (..., n), a row is the last dimension. Returns float32. Rows without a direction
    (zero, parallel or opposite) are interpolated in a straight line.
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


def merge(parts: Parts, dials: Dials) -> Tensor:
    return parts.origin + dials.scale * fold(parts.task_vectors(), parts.weights)


METHOD = Method(
    name="nuslerp",
    pretty_name="NuSLERP",
    reference="https://github.com/arcee-ai/mergekit/blob/main/docs/merge_methods.md#nuslerp-nuslerp",
    genes=frozenset({"weights", "scales"}),
    needs_base=True,
    needs_grams=False,
    merge=merge,
)
