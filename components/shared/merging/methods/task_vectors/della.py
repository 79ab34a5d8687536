"""DELLA: entries of a task vector are dropped at random, the small ones more often than the large ones, and rescaled.

Source: Deep, Bhardwaj and Poria, DELLA-Merging: reducing interference in model merging through magnitude-based sampling,
arXiv 2406.11617, §3.1 (MagPrune), eq. 1 to 3: in each row of n entries, ranked by magnitude, drop probabilities fall in
even steps over a window of width ε around p; an entry that is kept is divided by its own keep probability 1 − pᵢ, which
keeps the expectation. What remains is merged by TIES's election of signs (`della`, steps 2 and 3) or summed
(`della_linear`).

Our ε is half the window's width (as in mergekit): keep probabilities run from d − ε to d + ε, d = 1 − p. The draws are
DARE's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .dare import uniform


def keep_probabilities(task_vector: Tensor, density: float, epsilon: float) -> Tensor:
    """P(keep) of every entry, by its rank among the magnitudes of its row: (…, n) → (…, n) float32.

    Entries of equal magnitude keep their order. A row of one entry is kept with `density`. Density 1 keeps all.
    Raises ValueError unless 0 < d − ε and d + ε ≤ 1, or d is 1.
    """
    if density == 1:
        return torch.ones_like(task_vector, dtype=torch.float32)
    if not (density - epsilon > 0 and density + epsilon <= 1 and epsilon >= 0):
        raise ValueError(f"density ± epsilon must lie in (0, 1], got {density} ± {epsilon}")
    count = task_vector.shape[-1]
    if count < 2:
        return torch.full_like(task_vector, density, dtype=torch.float32)
    order = task_vector.abs().argsort(dim=-1, stable=True)
    steps = torch.linspace(density - epsilon, density + epsilon, count).expand_as(order)
    return torch.empty(task_vector.shape).scatter_(-1, order, steps)


def magprune(
    task_vector: Tensor,
    density: float,
    epsilon: float,
    *,
    seed: int,
    name: str,
    parent: int,
    start: int = 0,
) -> Tensor:
    """The pruned and rescaled task vector; its expectation is the task vector. (…, n), rows whole; returns float32.

    start: where the first entry stands in the whole tensor, when this is a run of its rows.
    """
    keep = keep_probabilities(task_vector, density, epsilon)
    draws = uniform(task_vector.numel(), seed=seed, name=name, parent=parent, start=start)
    kept = draws.view(task_vector.shape) < keep.double()
    return (task_vector.float() / keep).mul_(kept)
