"""Model Breadcrumbs: both ends of a task vector are dropped, the small entries and the outliers.

Source: Davari and Belilovsky, Model Breadcrumbs: scaling multi-task model merging with sparse masks, arXiv 2312.06795, §3:
layer by layer the entries are ranked by magnitude; the top γ share and the bottom β share are masked, the others are kept
as they are. What remains is merged by task arithmetic (`breadcrumbs`), or by TIES's election of signs (`breadcrumbs_ties`).
β follows from the density d that is kept: β = 1 − d − γ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from torch import Tensor
from torch.nn.functional import hardshrink

from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...magnitude import nth_largest
from ...method import DENSITY, LAMBDA, NORMALIZE_NOT_IN_MERGEKIT, WEIGHT, Parameter, merge_method
from .task_arithmetic import add_weighted
from .ties import add_elected, trim

GAMMA = Parameter(
    "gamma", 0.01, "the share of outliers that is dropped",
    low=0.0, high=1.0, per_model=True, mergekit="gamma",
)  # fmt: skip


def ranks(count: int, density: float, gamma: float) -> tuple[int, int]:
    """Of `count` entries ranked from the largest, 1-based, the first and the last that is kept.

    γ gives way where γ + d > 1, so that the density is what was asked for; density 1 keeps everything.

    :raises ValueError: a density outside (0, 1], or γ outside [0, 1).
    """
    if not 0 < density <= 1 or not 0 <= gamma < 1:
        raise ValueError(f"density must be in (0, 1] and gamma in [0, 1), got {density} and {gamma}")
    kept = max(1, math.floor(density * count))
    dropped = min(math.floor(gamma * count), count - kept)
    return dropped + 1, dropped + kept


def limits(task_vector: Callable[[], Iterable[Tensor]], density: float, gamma: float) -> tuple[float, float]:
    """The least and the greatest magnitude that is kept.

    :param task_vector: yields its pieces, as often as it is called.
    :param density: the share that is kept, in (0, 1].
    :param gamma: the share of outliers that is dropped, in [0, 1).
    """
    first, last = ranks(sum(piece.numel() for piece in task_vector()), density, gamma)
    return nth_largest(task_vector, last), nth_largest(task_vector, first)


def crumbs(task_vector: Tensor, low: float, high: float) -> Tensor:
    """Entries whose magnitude is not within [low, high] become 0. Any shape."""
    kept = trim(task_vector, low)
    return kept.sub_(hardshrink(kept, high))


def survey(tensor: WholeTensor, parameters: MergeParameters) -> list[tuple[float, float]]:
    """Of each parent the least and the greatest magnitude that is kept of this tensor."""

    def of(parent: int) -> tuple[float, float]:
        own = parameters.own[parent]
        return limits(lambda: tensor.task_vector(parent), own["density"], own["gamma"])

    return tensor.each_parent(of)


def sparse_task_vectors(inputs: MergeInputs, kept: list[tuple[float, float]]) -> list[Tensor]:
    """Every parent's task vector without both ends."""
    return [crumbs(task, *limit) for task, limit in zip(inputs.task_vectors(), kept, strict=True)]


@merge_method(
    "breadcrumbs",
    pretty_name="Model Breadcrumbs",
    paper="https://arxiv.org/abs/2312.06795",
    summary="small changes and outliers dropped",
    parameters=(
        WEIGHT,
        DENSITY.but(start=0.15),
        GAMMA,
        LAMBDA.but(start=0.4, start_per_model=True),
        NORMALIZE_NOT_IN_MERGEKIT,
    ),
    survey=survey,
)
def merge(inputs: MergeInputs, parameters: MergeParameters, kept: list[tuple[float, float]]) -> Tensor:
    """Task arithmetic of what is left."""
    return add_weighted(inputs, parameters, sparse_task_vectors(inputs, kept))


@merge_method(
    "breadcrumbs_ties",
    pretty_name="Model Breadcrumbs + TIES",
    paper="https://arxiv.org/abs/2312.06795",
    summary="the same, and signs elected",
    parameters=(
        WEIGHT,
        DENSITY.but(start=0.15),
        GAMMA,
        LAMBDA,
        NORMALIZE_NOT_IN_MERGEKIT,
    ),
    searched=False,
    survey=survey,
)
def merge_ties(inputs: MergeInputs, parameters: MergeParameters, kept: list[tuple[float, float]]) -> Tensor:
    """TIES without its trimming, of what is left."""
    return add_elected(inputs, parameters, sparse_task_vectors(inputs, kept))
