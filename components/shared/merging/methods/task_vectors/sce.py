"""SCE: select the entries in which the models differ most, weigh the models by their energy there, erase minorities.

Source: Wan et al., FuseChat: knowledge fusion of chat models, arXiv 2408.07990, §3.3. Of each parameter matrix: Select the
τ share of entries with the largest variance over the task vectors; Calculate each model's weight as its share of the sum of
squares of what is selected; Erase, entry by entry, what has not the sign of the sum. What is left is averaged with these
weights, over the models that are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ...inputs import MergeInputs, MergeParameters, WholeTensor
from ...magnitude import nth_largest
from ...method import LAMBDA, Parameter, merge_method
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

    :param spread: yields the variances in pieces, as often as it is called.
    :param share: τ, in [0, 1]; 1 selects everything.
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
    """The merged task vector.

    :param task_vectors: N of one matrix.
    :param share: τ, in (0, 1].
    :returns: float32 of that shape.
    :raises ValueError: τ is outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"the selected share must be in (0, 1], got {share}")
    spread = variance(task_vectors)
    selected = select(task_vectors, spread, least_variance(lambda: [spread], share))
    weights = shares([float(task.double().square().sum()) for task in selected])
    return fuse(selected, weights)


def survey(tensor: WholeTensor, parameters: MergeParameters) -> tuple[float, list[float]]:
    """The least variance that is selected, and the parents' shares of the energy."""
    least = least_variance(
        lambda: tensor.map(lambda inputs: variance(inputs.task_vectors())), parameters["select_topk"]
    )

    def energies(inputs: MergeInputs) -> list[float]:
        tasks = inputs.task_vectors()
        return [float(task.double().square().sum()) for task in select(tasks, variance(tasks), least)]

    return least, shares(np.sum(list(tensor.map(energies)), axis=0).tolist())


@merge_method(
    "sce",
    pretty_name="SCE",
    paper="https://arxiv.org/abs/2408.07990",
    summary="what differs most between the models decides",
    parameters=(
        Parameter(
            "select_topk", 1.0, "the share of entries that is selected",
            low=0.0, high=1.0, above_low=True, gene="density", start=0.1, mergekit="select_topk", option="--topk",
        ),
        LAMBDA.but(mergekit=""),
    ),
    survey=survey,
)  # fmt: skip
def merge(inputs: MergeInputs, parameters: MergeParameters, selection: tuple[float, list[float]]) -> Tensor:
    """Select, weigh and erase."""
    tasks, (least, weights) = inputs.task_vectors(), selection
    merged = fuse(select(tasks, variance(tasks), least), weights)
    return merged.mul_(parameters["lambda"]).add_(inputs.required_base)
