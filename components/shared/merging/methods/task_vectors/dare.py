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

from ...inputs import Dials, Method, Parts
from ..averages.linear import linear
from .ties import ties

# One step of Philox4x64 gives four 64-bit words, which are eight 32-bit draws.
DRAWS_PER_STEP = 8


def draws(count: int, *, seed: int, name: str, parent: int, start: int = 0) -> np.ndarray:
    """Entries start … start+count of the parent's stream for this tensor: uint32 (count,)."""
    key = int.from_bytes(hashlib.sha256(f"{seed}\0{name}\0{parent}".encode()).digest()[:16], "little")
    first = start // DRAWS_PER_STEP
    steps = -(-(start + count) // DRAWS_PER_STEP) - first
    words = np.random.Philox(key=key, counter=first).random_raw(steps * 4)
    return words.astype("<u8", copy=False).view("<u4")[start - first * DRAWS_PER_STEP :][:count]


def uniform(count: int, *, seed: int, name: str, parent: int, start: int = 0) -> Tensor:
    """The same draws as numbers in [0, 1): float64 (count,)."""
    return torch.from_numpy(draws(count, seed=seed, name=name, parent=parent, start=start) * 2.0**-32)


def mask(count: int, density: float, *, seed: int, name: str, parent: int, start: int = 0) -> Tensor:
    """Which entries start … start+count of a flat task vector are kept: bool (count,), each True with
    `density`.

    density: 1 − p of the paper, in (0, 1]; exact to 2⁻³².
    """
    if not 0 < density <= 1:
        raise ValueError(f"{name}: density must be in (0, 1], got {density}")
    own = draws(count, seed=seed, name=name, parent=parent, start=start)
    return torch.from_numpy(own <= np.uint32(max(round(density * 2**32), 1) - 1))


def drop_and_rescale(
    task_vector: Tensor, density: float, *, seed: int, name: str, parent: int, start: int = 0
) -> Tensor:
    """δ̂ = mask ⊙ δ / density; its expectation is δ. Any shape; returns float32.

    start: where the first entry stands in the whole tensor, when this is a piece of it.
    """
    kept = mask(task_vector.numel(), density, seed=seed, name=name, parent=parent, start=start)
    return (task_vector.float() / density).mul_(kept.view(task_vector.shape).to(task_vector.device))


def dropped_task_vectors(parts: Parts, dials: Dials) -> list[Tensor]:
    return [
        drop_and_rescale(task, dials.density, seed=dials.seed, name=parts.name, parent=index)
        for task, index in zip(parts.task_vectors(), parts.indices, strict=True)
    ]


def merge_linear(parts: Parts, dials: Dials) -> Tensor:
    return parts.origin + dials.scale * linear(dropped_task_vectors(parts, dials), parts.weights)


def merge_ties(parts: Parts, dials: Dials) -> Tensor:
    tasks = dropped_task_vectors(parts, dials)
    return parts.origin + dials.scale * ties(tasks, parts.weights, [0.0] * len(tasks))


LINEAR = Method(
    name="dare_linear",
    pretty_name="DARE + task arithmetic",
    reference="https://arxiv.org/abs/2311.03099",
    genes=frozenset({"weights", "density", "scales"}),
    needs_base=True,
    needs_grams=False,
    merge=merge_linear,
)
TIES = Method(
    name="dare_ties",
    pretty_name="DARE + TIES",
    reference="https://arxiv.org/abs/2311.03099",
    genes=frozenset({"weights", "density", "scales"}),
    needs_base=True,
    needs_grams=False,
    merge=merge_ties,
)
