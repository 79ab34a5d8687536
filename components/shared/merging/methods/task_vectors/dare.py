"""DARE: drop most of each task vector at random and rescale what is left.

Source: Yu et al., Language models are super Mario: absorbing abilities from homologous models as a free
lunch, arXiv 2311.03099, eq. 2: mᵗ ~ Bernoulli(p), δ̃ᵗ = (1 − mᵗ)⊙δᵗ, δ̂ᵗ = δ̃ᵗ/(1 − p). What is left is
merged by task arithmetic (`dare_linear`) or by the sign election of TIES without its trimming (`dare_ties`).

The masks come from a counter-based generator (Philox4x64, Salmon et al., SC 2011) whose key is a hash of
(seed, tensor name, parent): entry i of a mask is a function of these and of i alone. Another order of
tensors, another sharding or another number of threads gives the same model.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from ...inputs import MergeInputs, MergeParameters
from ...kernels import philox
from ...method import DENSITY, LAMBDA, NORMALIZE_NOT_IN_MERGEKIT, WEIGHT, merge_method
from .task_arithmetic import add_weighted
from .ties import add_elected

# One step of Philox4x64 gives four 64-bit words, which are eight 32-bit draws.
DRAWS_PER_STEP = 8


def draws(count: int, *, seed: int, name: str, parent: int, start: int = 0) -> np.ndarray:
    """Entries start … start+count of the parent's stream for this tensor: uint32 (count,)."""
    key = np.frombuffer(hashlib.sha256(f"{seed}\0{name}\0{parent}".encode()).digest()[:16], "<u8")
    first = start // DRAWS_PER_STEP
    steps = -(-(start + count) // DRAWS_PER_STEP) - first
    words = np.empty(steps * 4, np.uint64)
    philox(key.astype(np.uint64), np.uint64(first), words)
    return words.astype("<u8", copy=False).view("<u4")[start - first * DRAWS_PER_STEP :][:count]


def uniform(count: int, *, seed: int, name: str, parent: int, start: int = 0) -> Tensor:
    """The same draws as numbers in [0, 1): float64 (count,)."""
    return torch.from_numpy(draws(count, seed=seed, name=name, parent=parent, start=start) * 2.0**-32)


def mask(count: int, density: float, *, seed: int, name: str, parent: int, start: int = 0) -> Tensor:
    """Which entries start … start+count of a flat task vector are kept, each with probability `density`.

    :param density: 1 − p of the paper, in (0, 1]; exact to 2⁻³².
    :returns: bool (count,).
    :raises ValueError: the density is outside (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"{name}: density must be in (0, 1], got {density}")
    own = draws(count, seed=seed, name=name, parent=parent, start=start)
    return torch.from_numpy(own <= np.uint32(max(round(density * 2**32), 1) - 1))


def drop_and_rescale(
    task_vector: Tensor, density: float, *, seed: int, name: str, parent: int, start: int = 0
) -> Tensor:
    """δ̂ = mask ⊙ δ / density; its expectation is δ.

    :param task_vector: of any shape.
    :param density: 1 − p of the paper, in (0, 1].
    :param seed: of the run.
    :param name: of the tensor.
    :param parent: its number.
    :param start: the first entry's position in the whole tensor, when this is a piece of it.
    :returns: float32 of the task vector's shape.
    """
    kept = mask(task_vector.numel(), density, seed=seed, name=name, parent=parent, start=start)
    return (task_vector.float() / density).mul_(kept.view(task_vector.shape).to(task_vector.device))


def sparse_task_vectors(inputs: MergeInputs, parameters: MergeParameters) -> list[Tensor]:
    """Every parent's task vector, dropped and rescaled."""
    tasks = zip(inputs.task_vectors(), parameters.each("density"), strict=True)
    return [
        drop_and_rescale(
            task, density, seed=parameters.seed, name=parameters.tensor, parent=parent, start=inputs.start
        )
        for parent, (task, density) in enumerate(tasks)
    ]


@merge_method(
    "dare_linear",
    pretty_name="DARE + task arithmetic",
    paper="https://arxiv.org/abs/2311.03099",
    summary="changes dropped at random, the rest rescaled",
    # half or more is dropped: §4
    parameters=(
        WEIGHT,
        DENSITY.but(start=0.5),
        LAMBDA.but(start=0.4, start_per_model=True),
        NORMALIZE_NOT_IN_MERGEKIT,
    ),
    mergekit_flags={"rescale": True},
)
def merge_linear(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """Task arithmetic of what is left."""
    return add_weighted(inputs, parameters, sparse_task_vectors(inputs, parameters))


@merge_method(
    "dare_ties",
    pretty_name="DARE + TIES",
    paper="https://arxiv.org/abs/2311.03099",
    summary="the same, and signs elected",
    parameters=(WEIGHT, DENSITY.but(start=0.5), LAMBDA, NORMALIZE_NOT_IN_MERGEKIT),
    mergekit_flags={"rescale": True},
)
def merge_ties(inputs: MergeInputs, parameters: MergeParameters) -> Tensor:
    """TIES without its trimming, of what is left."""
    return add_elected(inputs, parameters, sparse_task_vectors(inputs, parameters))
