"""DELLA: entries of a task vector are dropped at random, the small ones more often than the large ones, and rescaled.

Source: Deep, Bhardwaj and Poria, DELLA-Merging: reducing interference in model merging through magnitude-based sampling,
arXiv 2406.11617, §3.1 (MagPrune), eq. 1 to 3: in each row of n entries, ranked by magnitude, drop probabilities fall in
even steps over a window of width ε around p; an entry that is kept is divided by its own keep probability 1 − pᵢ, which
keeps the expectation. What remains is merged by TIES's election of signs (`della`, steps 2 and 3) or summed
(`della_linear`).

Our ε is half the window's width, as in mergekit, whose default it has (0.15): keep probabilities run from d − ε to d + ε,
d = 1 − p. Where the density leaves no room for that, ε gives way. The draws are DARE's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...inputs import MergeInputs, MergeParameters
from ...method import DENSITY, LAMBDA, NORMALIZE_NOT_IN_MERGEKIT, WEIGHT, Parameter, merge_method
from .dare import uniform
from .task_arithmetic import add_weighted
from .ties import add_elected

EPSILON = Parameter(
    "epsilon", 0.15, "half the window of keep probabilities; less where the density leaves no room",
    low=0.0, high=0.5, per_model=True, mergekit="epsilon",
)  # fmt: skip


def fitted_epsilon(density: float, epsilon: float) -> float:
    """ε, or the widest that keeps d ± ε within (0, 1]: 1 − d above; half the density where ε would reach 0 below."""
    epsilon = min(epsilon, 1 - density)
    return epsilon if epsilon < density else density / 2


def keep_probabilities(task_vector: Tensor, density: float, epsilon: float) -> Tensor:
    """P(keep) of every entry, by its rank among the magnitudes of its row.

    Entries of equal magnitude keep their order. A row of one entry is kept with `density`. Density 1 keeps all.

    :param task_vector: (…, n).
    :param density: the mean of the probabilities.
    :param epsilon: half the width of their window.
    :returns: float32 (…, n).
    :raises ValueError: not 0 < d − ε and d + ε ≤ 1, and d is not 1.
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
    """The pruned and rescaled task vector; its expectation is the task vector.

    :param task_vector: (…, n), rows whole.
    :param density: the mean of the keep probabilities.
    :param epsilon: half the width of their window.
    :param seed: of the run.
    :param name: of the tensor.
    :param parent: its number.
    :param start: the first entry's position in the whole tensor, when this is a run of its rows.
    :returns: float32 (…, n).
    """
    keep = keep_probabilities(task_vector, density, epsilon)
    draws = uniform(task_vector.numel(), seed=seed, name=name, parent=parent, start=start)
    kept = draws.view(task_vector.shape) < keep.double()
    return (task_vector.float() / keep).mul_(kept)


def sparse_task_vectors(inputs: MergeInputs, parameters: MergeParameters) -> list[Tensor]:
    """Every parent's task vector, pruned and rescaled."""
    return [
        magprune(
            task,
            own["density"],
            fitted_epsilon(own["density"], own["epsilon"]),
            seed=parameters.seed,
            name=parameters.tensor,
            parent=parent,
            start=inputs.start,
        )
        for parent, (task, own) in enumerate(zip(inputs.task_vectors(), parameters.own, strict=True))
    ]


@merge_method(
    "della",
    pretty_name="DELLA",
    paper="https://arxiv.org/abs/2406.11617",
    summary="small changes dropped more often than large ones, the rest rescaled, signs elected",
    parameters=(
        WEIGHT,
        DENSITY.but(start=0.5),
        EPSILON,
        LAMBDA,
        NORMALIZE_NOT_IN_MERGEKIT,
    ),
    whole_rows=True,
    mergekit_flags={"rescale": True},
)
def merge(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """Steps 2 and 3: signs elected, what agrees fused."""
    return add_elected(inputs, parameters, sparse_task_vectors(inputs, parameters))


@merge_method(
    "della_linear",
    pretty_name="DELLA without election",
    paper="https://arxiv.org/abs/2406.11617",
    summary="the same without election",
    parameters=(
        WEIGHT,
        DENSITY.but(start=0.5),
        EPSILON,
        LAMBDA.but(start=0.4, start_per_model=True),
        NORMALIZE_NOT_IN_MERGEKIT,
    ),
    whole_rows=True,
    searched=False,
    mergekit_flags={"rescale": True},
)
def merge_linear(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """Step 1 alone: what is left is summed."""
    return add_weighted(inputs, parameters, sparse_task_vectors(inputs, parameters))
