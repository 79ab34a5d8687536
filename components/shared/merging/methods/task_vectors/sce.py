"""SCE: select the entries in which the models differ most, weigh the models by their energy there, erase minorities.

Source: Wan et al., FuseChat: knowledge fusion of chat models, arXiv 2408.07990, §3.3. Of each parameter matrix: Select the
τ share of entries with the largest variance over the task vectors; Calculate each model's weight as its share of the sum of
squares of what is selected; Erase, entry by entry, what has not the sign of the sum. What is left is averaged with these
weights, over the models that are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from ...magnitude import nth_largest
from .ties import disjoint_mean


def variance(task_vectors: Sequence[Tensor]) -> Tensor:
    """Over the N models, entry by entry (divided by N). Returns float32."""
    mean = torch.stack([task.float() for task in task_vectors]).mean(0)
    total = torch.zeros_like(mean)
    for task in task_vectors:
        total += (task - mean).square()
    return total / len(task_vectors)


def select(task_vectors: Sequence[Tensor], spread: Tensor, least: float) -> list[Tensor]:
    """Entries whose variance is below `least` become 0; least 0 selects everything (τ = 1)."""
    chosen = spread >= least
    return [task.float() * chosen for task in task_vectors]


def least_variance(spread: Callable[[], Iterable[Tensor]], share: float) -> float:
    """The variance that the τ share of the entries with a variance above 0 reaches; ∞ where τ selects none.

    spread: yields the variances in pieces, as often as it is called.
    """
    if share == 1:
        return 0.0
    kept = math.floor(share * sum(int(piece.count_nonzero()) for piece in spread()))
    return nth_largest(spread, kept) if kept else math.inf


def shares(energies: Sequence[float]) -> list[float]:
    """Each model's sum of squares over their sum; equal where nothing was selected."""
    total = sum(energies)
    return [energy / total if total else 1 / len(energies) for energy in energies]


def fuse(selected: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean over the models that have the sign of the unweighted sum; 0 where it is 0."""
    sign = torch.stack(list(selected)).sum(0).sign()
    return disjoint_mean(selected, weights, sign)


def sce(task_vectors: Sequence[Tensor], share: float) -> Tensor:
    """The merged task vector of N task vectors of one matrix. share: τ, in (0, 1]. Returns float32."""
    if not 0 < share <= 1:
        raise ValueError(f"the selected share must be in (0, 1], got {share}")
    spread = variance(task_vectors)
    selected = select(task_vectors, spread, least_variance(lambda: [spread], share))
    weights = shares([float(task.double().square().sum()) for task in selected])
    return fuse(selected, weights)
