"""CMA-ES over the continuous genes of one merge method.

Source: Hansen, The CMA evolution strategy: a tutorial, arXiv 1604.00772, in the `cmaes` library (Nomura and
Shibata, arXiv 2402.01373); over merge weights as in Akiba et al., arXiv 2403.13187, §3.1. CMA-ES looks at
ranks alone, so the rank of a candidate among its generation is what it is told, and a failed merge is the
last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .archive import Record, ranked
from .evolution import Child
from .space import Space

if TYPE_CHECKING:  # `cmaes` imports scipy.stats, half a second that only its users should wait for
    from cmaes import CMA

SIGMA = 0.2  # of the unit range of every gene


class CmaBreeder:
    """Breeds by CMA-ES: tells it the last children's ranks, asks it for the next.

    It starts, and after a restart starts again, at the best genome that has continuous genes; the method
    stays that genome's. Its whole state follows from its seed and the measurements, as the search's does
    (evolution.py).
    """

    def __init__(self, space: Space, size: int, seed: int) -> None:
        self.space, self.size, self.seed = space, size, seed
        self.method = ""
        self.start = ""
        self.asked: list[np.ndarray] = []
        self.optimiser: CMA

    def __call__(
        self, population: Sequence[Record], born: Sequence[Record], rng: np.random.Generator
    ) -> list[Child]:
        if born:
            place = {record.hash: place for place, record in enumerate(ranked(born))}
            ranks = [float(place[record.hash]) for record in born]
            self.optimiser.tell(list(zip(self.asked, ranks, strict=True)))
        else:
            self._begin(population)
        self.asked = [self.optimiser.ask() for _ in range(self.size)]
        genomes = [self.space.decode(self.method, vector.tolist()) for vector in self.asked]
        return [Child(genome, "cma-es", (self.start,)) for genome in genomes]

    def _begin(self, population: Sequence[Record]) -> None:
        from cmaes import CMA

        vectors = [record for record in population if not record.genome.path]
        genome = vectors[0].genome if vectors else self.space.default("linear")
        self.start = vectors[0].hash if vectors else population[0].hash
        self.method = genome.method
        mean = self.space.encode(genome)
        bounds = np.tile([0.0, 1.0], (len(mean), 1))
        self.optimiser = CMA(mean, SIGMA, bounds=bounds, seed=self.seed, population_size=self.size)
