"""Evolution of one island: a small population, its elites mutated, its losers recombined.

Every draw of a generation comes from a stream of its own, and everything measured is in the archive. So a
search that was killed is run again from its start, is answered from the archive for as long as it repeats
itself, and goes on from where it was: there is no other state to save, and the end is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from .archive import Provenance, Record, ranked
from .diversity import diversity
from .genome import Genome
from .space import SearchSpace
from .variation import mutate, recombine

Measure = Callable[[Genome, Provenance, Genome | None], Record]
"""Gives the record of a genome, from the archive or by merging and evaluating it in a race with the third (race.py)."""


@dataclass(frozen=True)
class EvolutionParameters:
    """How a population evolves; the same for every worker and every round.

    :param size: of the population.
    :param strategy: "genetic" or "catcma".
    :param collapse: diversity below which all but the champion are drawn anew.
    :param patience: generations without a better genome after which it stops.
    """

    size: int
    strategy: str
    collapse: float
    patience: int


@dataclass(frozen=True)
class Child:
    """A genome that is to be measured, and where it came from.

    :param origin: the step that made it.
    :param parents: hashes of what it was made of.
    """

    genome: Genome
    origin: str
    parents: tuple[str, ...] = ()

    def provenance(self, shared: Provenance) -> Provenance:
        """Its own. shared: what all children of a generation have in common."""
        return replace(shared, origin=self.origin, parents=self.parents)


@dataclass(frozen=True)
class Offspring:
    """The children of one generation.

    :param rival: with whom they race, where there is one (race.py).
    :param restarted: the population had collapsed, and these are all drawn anew.
    :param from_strategy: the strategy made them, and learns what became of them.
    """

    children: list[Child]
    rival: Genome | None
    restarted: bool = False
    from_strategy: bool = True


class Strategy(Protocol):
    """One way to make the next candidates.

    It is called with the population, best first; with the records of the last candidates, in the order in which it
    returned them (none at the start and after a restart); and with the generation's random stream.
    """

    def __call__(
        self, population: Sequence[Record], measured: Sequence[Record], rng: np.random.Generator
    ) -> list[Child]:
        """The next candidates."""
        ...


@dataclass(frozen=True)
class Generation:
    """A population after a generation, best first."""

    population: list[Record]
    diversity: float
    restarted: bool


def elites_of(size: int) -> int:
    """A quarter of the population, at least one."""
    return max(1, size // 4)


def genetic(space: SearchSpace) -> Strategy:
    """The genetic strategy of a space."""
    return lambda population, measured, rng: next_children(population, space, rng)


def next_children(population: Sequence[Record], space: SearchSpace, rng: np.random.Generator) -> list[Child]:
    """As many children as the population has members: of 8, six mutants and two recombinations.

    The elites (a quarter) are mutated in turn; the losers are dealt into as many groups as there are elites, and each
    group has one child, so that what losing genomes know is not lost with them.

    :param population: best first.
    """
    count = elites_of(len(population))
    elites, losers = population[:count], population[count:]
    groups = [group for group in (losers[i::count] for i in range(count)) if len(group) > 1]
    mutants = len(population) - len(groups)
    children = []
    for i in range(mutants):
        elite = elites[i % count]
        children.append(Child(mutate(elite.genome, space, rng), "mutation", (elite.hash,)))
    for group in groups:
        genome = recombine([record.genome for record in group], space, rng)
        children.append(Child(genome, "recombination", tuple(record.hash for record in group)))
    return children


def survivors(population: Sequence[Record], children: Sequence[Record], size: int) -> list[Record]:
    """The elites of the population and the best of the children, each genome once; best first, at most `size`."""
    pool: dict[str, Record] = {}
    for record in (*population[: elites_of(size)], *children):
        pool.setdefault(record.hash, record)
    return ranked(pool.values())[:size]


class Evolution:
    """One population on its way: `ask` for the children of a generation, have them measured, `tell` their records.

    :param population: measured.
    :param strategy: makes the children.
    :param collapse: below this diversity all but the champion are replaced by genomes drawn at random.
    """

    def __init__(
        self, population: Sequence[Record], *, space: SearchSpace, strategy: Strategy, collapse: float
    ) -> None:
        self.members = ranked(population)
        self.size = len(self.members)
        self.space, self.strategy, self.collapse = space, strategy, collapse
        self.measured: list[Record] = []
        self.diversity = diversity([record.genome for record in self.members])

    def ask(self, rng: np.random.Generator) -> Offspring:
        """The next children. They race with the last elite: who is surely worse cannot be one."""
        if self.size > 1 and self.diversity < self.collapse:
            drawn = [Child(self.space.random(rng), "immigrant") for _ in range(self.size - 1)]
            return Offspring(drawn, None, restarted=True, from_strategy=False)
        children = self.strategy(self.members, self.measured, rng)
        return Offspring(children, self.members[: elites_of(self.size)][-1].genome)

    def tell(self, offspring: Offspring, records: Sequence[Record]) -> Generation:
        """The population after this generation. records: of the offspring's children, in their order."""
        before = self.members[:1] if offspring.restarted else self.members
        self.members = survivors(before, records, self.size)
        self.measured = list(records) if offspring.from_strategy else []
        self.diversity = diversity([record.genome for record in self.members])
        return Generation(self.members, self.diversity, offspring.restarted)


def evolve(
    population: Sequence[Record],
    generations: int,
    *,
    space: SearchSpace,
    strategy: Strategy,
    measure: Measure,
    random: Callable[[int], np.random.Generator],
    provenance: Provenance,
    collapse: float,
) -> Iterator[Generation]:
    """Yield the population after each of `generations` generations.

    :param population: measured, best first.
    :param measure: gives the record of a genome.
    :param random: the stream of a generation, by its number.
    :param provenance: what the children share (worker, round, seed); its generation is the number of the last generation
        before these.
    :param collapse: below this diversity all but the champion are replaced.
    """
    evolution = Evolution(population, space=space, strategy=strategy, collapse=collapse)
    for number in range(provenance.generation + 1, provenance.generation + generations + 1):
        offspring = evolution.ask(random(number))
        records = [
            measure(child.genome, child.provenance(replace(provenance, generation=number)), offspring.rival)
            for child in offspring.children
        ]
        yield evolution.tell(offspring, records)
