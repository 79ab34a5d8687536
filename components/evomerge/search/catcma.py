"""CatCMA with Margin over all genes of the weighted merges: whole numbers, and the method as a category.

Source: Hamano et al., CatCMA with Margin, arXiv 2504.07884, in the `cmaes` library (Nomura and Shibata, arXiv
2402.01373); CMA-ES over merge weights is Akiba et al.'s, arXiv 2403.13187, §3.1. The margin keeps every whole number and
every method possible, however narrow the distribution has become. It looks at ranks alone, so the rank of a candidate among
its generation is what it gets, and a failed merge is the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from components.shared.merging.registry import merge_method

from .archive import Record, ranked
from .evolution import Child
from .genome import ALPHA, DENSITY, LEVELS, SCALE, Genome, quantise_row
from .space import SearchSpace

if TYPE_CHECKING:  # `cmaes` imports scipy.stats, half a second that only its users should wait for
    from cmaes import CatCMAwM

SIGMA = 0.2  # of the range of every gene
FAVOUR = 0.8  # how probable the method of the first mean is; the others share the rest


class CatCmaStrategy:
    """CatCMA as a search strategy: tells it the last children's ranks, asks it for the next.

    It starts, and after a restart starts again, at the best genome that is no layer path. Its whole state follows from
    its seed and the measurements, as the search's does (evolution.py).
    """

    def __init__(self, space: SearchSpace, size: int, seed: int) -> None:
        self.space, self.size, self.seed = space, size, seed
        self.methods = [name for name in space.methods if merge_method(name).kind != "layers"] or ["linear"]
        self.start = ""
        self.solutions: list[CatCMAwM.Solution] = []
        self.optimizer: CatCMAwM

    def __call__(
        self, population: Sequence[Record], measured: Sequence[Record], rng: np.random.Generator
    ) -> list[Child]:
        """The next candidates, as `Strategy` has it."""
        if measured:
            rank_of = {record.hash: rank for rank, record in enumerate(ranked(measured))}
            ranks = [float(rank_of[record.hash]) for record in measured]
            self.optimizer.tell(list(zip(self.solutions, ranks, strict=True)))
        else:
            self._begin(population)
        self.solutions = [self.optimizer.ask() for _ in range(self.size)]
        return [Child(self.genome(solution), "catcma", (self.start,)) for solution in self.solutions]

    def _begin(self, population: Sequence[Record]) -> None:
        from cmaes import CatCMAwM

        weighted = [record for record in population if record.genome.method in self.methods]
        genome = weighted[0].genome if weighted else self.space.default(self.methods[0])
        self.start = (weighted or population)[0].hash
        groups, several = range(self.space.groups), len(self.methods) > 1
        levels = [range(LEVELS + 1)] * (self.space.parents * self.space.groups)
        bounds = [SCALE] * self.space.groups + [DENSITY, ALPHA]
        values = levels + [range(low, high + 1) for low, high in bounds]
        weights = [LEVELS * weight / max(row) for row in genome.weights for weight in row]
        mean = [*weights, *(genome.scale(group) for group in groups), genome.density, genome.alpha]
        spread = [SIGMA * (len(row) - 1) for row in values]
        self.optimizer = CatCMAwM(
            z_space=values,
            c_space=[len(self.methods)] if several else None,
            population_size=self.size,
            mean=np.array(mean, float),
            sigma=1.0,
            cov=np.diag(np.square(spread)),
            cat_param=self._favoured(genome.method)[None] if several else None,
            seed=self.seed,
        )

    def _favoured(self, method: str) -> np.ndarray:
        """(methods,) probabilities."""
        probabilities = np.full(len(self.methods), (1 - FAVOUR) / (len(self.methods) - 1))
        probabilities[self.methods.index(method)] = FAVOUR
        return probabilities

    def genome(self, solution: CatCMAwM.Solution) -> Genome:
        """The canonical genome of what CatCMA asks for."""
        genes = [int(gene) for gene in solution.z]
        method = self.methods[0] if solution.c is None else self.methods[int(np.argmax(solution.c[0]))]
        parents, groups = self.space.parents, self.space.groups
        cut = parents * groups
        rows = [genes[first : first + parents] for first in range(0, cut, parents)]
        return self.space.canonical(
            Genome(
                method,
                tuple(quantise_row(row) for row in rows),
                scales=tuple(genes[cut : cut + groups]),
                density=genes[-2],
                alpha=genes[-1],
            )
        )
