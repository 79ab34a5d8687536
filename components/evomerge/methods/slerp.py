"""SLERP: interpolation along the great circle between two weight vectors.

Source: Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985, §3.3; applied to flattened
weights. More than two parents are folded from the left, each step at the new parent's share of the weight so
far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .parts import Dials, Method, Parts

# Where the angle is below this, sin(Ω) ≈ Ω and the arc is a straight line to within float32.
SMALL_ANGLE = 1e-4


def slerp(t: float, a: Tensor, b: Tensor) -> Tensor:
    """sin((1−t)Ω)/sin Ω · a + sin(tΩ)/sin Ω · b, Ω the angle between a and b as flat vectors.

    t: in [0, 1]; a, b: one shape. Returns float32. Where the vectors are parallel, opposite or one of them is
    zero, no great circle is defined, and the straight line is taken.
    """
    a, b = a.float(), b.float()
    norms = torch.linalg.vector_norm(a, dtype=torch.float64) * torch.linalg.vector_norm(
        b, dtype=torch.float64
    )
    if norms == 0:
        return torch.lerp(a, b, t)
    cosine = (a.flatten().double() @ b.flatten().double() / norms).clamp(-1.0, 1.0)
    angle = math.acos(float(cosine))
    if angle < SMALL_ANGLE or math.pi - angle < SMALL_ANGLE:
        return torch.lerp(a, b, t)
    return a * (math.sin((1 - t) * angle) / math.sin(angle)) + b * (math.sin(t * angle) / math.sin(angle))


def fold(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """SLERP of N tensors from the left; parents of weight 0 are passed over. Returns float32."""
    merged, total = tensors[0].float(), weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        if weight == 0:
            continue
        total += weight
        merged = slerp(weight / total, merged, tensor)
    return merged


def merge(parts: Parts, dials: Dials) -> Tensor:
    return fold(parts.parents, parts.weights)


METHOD = Method(
    name="slerp",
    pretty_name="SLERP",
    reference="https://doi.org/10.1145/325165.325242",
    genes=frozenset({"weights"}),
    needs_base=False,
    needs_grams=False,
    merge=merge,
)
