"""Task arithmetic: the base plus λ times the weighted sum of the task vectors.

Source: Ilharco et al., Editing models with task arithmetic, arXiv 2212.04089, §2.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...inputs import Dials, Method, Parts
from ..averages.linear import linear


def task_arithmetic(
    base: Tensor, tensors: Sequence[Tensor], weights: Sequence[float], scale: float
) -> Tensor:
    """θ_base + λ·Σ wᵢ·(θᵢ − θ_base). All of one shape; returns float32."""
    base = base.float()
    step = linear([tensor.float() - base for tensor in tensors], weights)
    return base + scale * step


def merge(parts: Parts, dials: Dials) -> Tensor:
    return task_arithmetic(parts.origin, parts.parents, parts.weights, dials.scale)


METHOD = Method(
    name="task_arithmetic",
    pretty_name="Task arithmetic",
    reference="https://arxiv.org/abs/2212.04089",
    genes=frozenset({"weights", "scales"}),
    needs_base=True,
    needs_grams=False,
    merge=merge,
)
