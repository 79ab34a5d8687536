"""RAM: what one model alone changed is added whole, what several changed is averaged.

Source: Reinforced Agent Merging, arXiv 2601.13572, §3: an entry counts as changed where the task vector is above ε. RAM+
strengthens the changes that are a model's own by λ = 1 + r·min(ρ, α), ρ its changes that it shares over those that it does
not. The counts are of each tensor, as in mergekit's `ramplus_tl`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...method import LAMBDA, Parameter, merge_method

EPSILON = Parameter("least_change", 1e-5, "what counts as a change", low=0.0, mergekit="epsilon")


def changes(task_vectors: Sequence[Tensor], least: float) -> tuple[Tensor, Tensor]:
    """Which entries each of N models changed, bool (N, …), and how many models each entry."""
    changed = torch.stack([task.abs() > least for task in task_vectors])
    return changed, changed.sum(0)


def ram(task_vectors: Sequence[Tensor], least: float, strengths: Sequence[float]) -> Tensor:
    """The merged task vector.

    :param task_vectors: N of one shape.
    :param least: what counts as a change.
    :param strengths: N factors of what a model alone changed.
    :returns: float32 of that shape.
    """
    changed, count = changes(task_vectors, least)
    alone, several = count == 1, count.clamp_min(1)
    total = torch.zeros_like(task_vectors[0], dtype=torch.float32)
    for task, own, strength in zip(task_vectors, changed, strengths, strict=True):
        total += task * own * torch.where(alone, strength, 1.0) / several
    return total


def survey(tensor: WholeTensor, parameters: MergeParameters) -> list[float]:
    """Each model's strength: 1 + r·min(shared/own, α)."""

    def counts(inputs: MergeInputs) -> np.ndarray:
        changed, count = changes(inputs.task_vectors(), parameters["least_change"])
        return np.array(
            [[int((own & (count > 1)).sum()), int((own & (count == 1)).sum())] for own in changed]
        )

    ratios = [
        shared / max(alone, parameters["least_change"])
        for shared, alone in np.sum(list(tensor.map(counts)), axis=0).tolist()
    ]
    return [1 + parameters["boost"] * min(ratio, parameters["most_boost"]) for ratio in ratios]


@merge_method(
    "ram",
    pretty_name="RAM",
    paper="https://arxiv.org/abs/2601.13572",
    summary="what one model changed is added, what several changed is averaged",
    parameters=(EPSILON, LAMBDA.but(mergekit="")),
    searched=False,
)
def merge(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """The base, and what was changed."""
    tasks = inputs.task_vectors()
    step = ram(tasks, parameters["least_change"], [1.0] * len(tasks))
    return step.mul_(parameters["lambda"]).add_(inputs.required_base)


@merge_method(
    "ramplus_tl",
    pretty_name="RAM+",
    paper="https://arxiv.org/abs/2601.13572",
    summary="the same, and what one model alone changed is strengthened",
    parameters=(
        EPSILON,
        Parameter("boost", 0.1, "r, how much what one model alone changed is strengthened", mergekit="r"),
        Parameter(
            "most_boost", 0.2, "α, the bound of the ratio of shared changes", low=0.0, mergekit="alpha"
        ),
        LAMBDA.but(mergekit=""),
    ),
    searched=False,
    survey=survey,
)
def merge_strengthened(inputs: MergeInputs, parameters: MergeParameters, strengths: list[float]) -> Tensor:
    """The base, and what was changed, each model's own changes times its strength."""
    step = ram(inputs.task_vectors(), parameters["least_change"], strengths)
    return step.mul_(parameters["lambda"]).add_(inputs.required_base)
