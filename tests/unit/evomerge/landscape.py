"""A landscape that is known, so that a search costs nothing: best for TIES near the target weights at λ = 1.2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from components.evomerge.search.archive import Measurement
from components.evomerge.search.genome import Genome
from components.evomerge.search.population import SearchIdentity
from components.evomerge.search.space import SearchSpace
from components.evomerge.search.worker import Search
from components.shared.merging.registry import merge_methods
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.tracking.progress import Progress

TENSORWISE = tuple(
    name for name, method in merge_methods().items() if method.kind == "tensors" and method.most is None
)
EVERYTHING = (*TENSORWISE, "frankenmerge", "dfs")
SPACE = SearchSpace(parents=3, groups=2, methods=TENSORWISE)
IDENTITY = SearchIdentity(("a", "b", "c"), 0, ("reasoning",), 8, "accuracy", 4)
TARGET = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])


def closeness(genome: Genome) -> Measurement:
    """The fitness of a genome."""
    shares = np.array([genome.shares(group) for group in range(2)])
    value = (
        1
        - np.abs(shares - TARGET).mean()
        - 0.1 * abs(genome.scale(1) / 20 - 1.2)
        - 0.2 * (genome.method != "ties")
    )
    return Measurement(float(value), {"all": float(value)}, 1 - float(value))


def rng_of(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


class AfterEach(Checkpoints):
    """A checkpoint after every measurement."""

    def due(self) -> bool:
        return True


def search(
    folder: Path,
    evaluate: Callable[[Genome], Measurement] = closeness,
    kind: type[Checkpoints] = Checkpoints,
    identity: SearchIdentity = IDENTITY,
) -> Search:
    checkpoints = kind(str(folder), "0" * 64, every=1e9)
    return Search(
        SPACE,
        identity,
        lambda genome, rival: evaluate(genome),
        random=rng_of,
        checkpoints=checkpoints,
        progress=Progress("evomerge"),
    )
