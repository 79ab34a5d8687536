"""Evolution of architectures with an archive (Meta Agent Search, arXiv 2408.08435; evolutionary selection: 2510.06711).

The paper's archive goes whole into a language model that writes the next agent as code, and its headline is picked by test
score. Here designs are typed, a parent is chosen by tournament, and the test split decides nothing.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.agent.architecture import Architecture
from components.shared.evaluation.statistics import mean_interval
from components.shared.runtime.errors import ForgeError

from .space import Design, DesignSpace

ATTEMPTS = 50
"""Tries for a child that the archive does not hold; a small space may be exhausted."""


@dataclass
class ArchiveEntry:
    """A design and what it was worth. Fitness is its accuracy; None where it failed, and `failure` says how.

    low, high     95% bootstrap interval of the fitness
    select        accuracy on the select split; finalists alone have one
    test_fitness  accuracy on the report split; None but for the chosen one and its controls
    """

    thought: str
    name: str
    code: dict[str, Any]
    generation: int
    fitness: float | None
    low: float | None = None
    high: float | None = None
    select: float | None = None
    test_fitness: float | None = None
    failure: str = ""

    @property
    def design(self) -> Design:
        """The design that was measured."""
        return Design(self.thought, self.name, Architecture.model_validate(self.code))

    @property
    def key(self) -> str:
        """The same as `Architecture.canonical_json`."""
        return json.dumps(self.code, sort_keys=True, separators=(",", ":"))

    @property
    def rank(self) -> float:
        """For comparisons: a failed design is worse than any."""
        return -1.0 if self.fitness is None else self.fitness


Measure = Callable[[Architecture], np.ndarray]
"""Architecture → (n,) bool: right answers."""


def evaluate(design: Design, generation: int, measure: Measure) -> ArchiveEntry:
    """Measure a design. One that cannot run is kept with its error, so that it is not proposed again."""
    code = design.architecture.model_dump(mode="json")
    try:
        right = measure(design.architecture)
    except (ForgeError, ValueError, RuntimeError) as error:
        return ArchiveEntry(design.thought, design.name, code, generation, None, failure=str(error))
    rate, low, high = mean_interval(right)
    return ArchiveEntry(design.thought, design.name, code, generation, rate, low, high)


def fittest(archive: Sequence[ArchiveEntry]) -> ArchiveEntry:
    """The earliest of the best: among equals the simpler design came first."""
    return max(archive, key=lambda entry: entry.rank)


def propose(
    archive: Sequence[ArchiveEntry],
    space: DesignSpace,
    rng: random.Random,
    *,
    tournament: int,
    crossover: float,
) -> Design | None:
    """A child that the archive does not hold yet; None where none was found."""
    known = {entry.key for entry in archive}
    alive = [entry for entry in archive if entry.fitness is not None]

    def parent() -> Design:
        return fittest(rng.sample(alive, min(tournament, len(alive)))).design

    for _ in range(ATTEMPTS):
        if rng.random() < crossover:
            child = space.cross(parent(), parent(), rng)
        else:
            child = space.mutate(parent(), rng)
        if child.architecture.canonical_json not in known:
            return child
    return None


def generation(
    archive: list[ArchiveEntry],
    number: int,
    space: DesignSpace,
    measure: Measure,
    rng: random.Random,
    *,
    children: int,
    tournament: int,
    crossover: float,
) -> bool:
    """Add the children of one generation to the archive. True where one is fitter than all before."""
    best = fittest(archive).rank
    for _ in range(children):
        child = propose(archive, space, rng, tournament=tournament, crossover=crossover)
        if child is None:
            break
        archive.append(evaluate(child, number, measure))
    return fittest(archive).rank > best


def finalists(archive: Sequence[ArchiveEntry], count: int) -> list[int]:
    """Indices of the fittest `count` entries, earlier ones first among equals; failed ones never."""
    order = sorted(range(len(archive)), key=lambda index: -archive[index].rank)
    return [index for index in order[:count] if archive[index].fitness is not None]


def as_json(archive: Sequence[ArchiveEntry]) -> list[dict[str, Any]]:
    """The entries as plain dictionaries."""
    return [dataclasses.asdict(entry) for entry in archive]
