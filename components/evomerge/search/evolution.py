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

from .archive import Birth, Record, ranked
from .diversity import diversity
from .genome import Genome
from .space import Space
from .variation import mutate, recombine

Measure = Callable[[Genome, Birth, Genome | None], Record]
"""Gives the record of a genome, from the archive or by merging and evaluating it in a race with the third (race.py)."""


@dataclass(frozen=True)
class Child:
    genome: Genome
    origin: str
    parents: tuple[str, ...] = ()

    def birth(self, shared: Birth) -> Birth:
        """Its own birth. shared: what all children of a generation have in common."""
        return replace(shared, origin=self.origin, parents=self.parents)


@dataclass(frozen=True)
class Brood:
    """The children of one generation, to be measured in a race with `rival`, where there is one (race.py).

    restarted: the population had collapsed, and these are all drawn anew. bred: the breeder made them, and is told what
    became of them.
    """

    children: list[Child]
    rival: Genome | None
    restarted: bool = False
    bred: bool = True


class Breed(Protocol):
    """One way to make the next candidates.

    population: best first. born: the records of the last candidates in the order in which this gave them;
    empty at the start and after a restart.
    """

    def __call__(
        self, population: Sequence[Record], born: Sequence[Record], rng: np.random.Generator
    ) -> list[Child]: ...


@dataclass(frozen=True)
class Generation:
    """A population after a generation, best first."""

    population: list[Record]
    diversity: float
    restarted: bool


def elites_of(size: int) -> int:
    """A quarter of the population, at least one."""
    return max(1, size // 4)


def genetic(space: Space) -> Breed:
    """The genetic breeder of a space."""
    return lambda population, born, rng: breed(population, space, rng)


def breed(population: Sequence[Record], space: Space, rng: np.random.Generator) -> list[Child]:
    """As many children as the population has members: of 8, six mutants and two recombinations.

    population: best first. The elites (a quarter) are mutated in turn; the losers are dealt into as many
    groups as there are elites, and each group has one child, so that what losing genomes know is not lost
    with them.
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
    """The elites of the population and the best of the children, each genome once; best first, at most
    `size`.
    """
    pool: dict[str, Record] = {}
    for record in (*population[: elites_of(size)], *children):
        pool.setdefault(record.hash, record)
    return ranked(pool.values())[:size]


class Evolution:
    """One population on its way: `ask` for the children of a generation, have them measured, `tell` their records.

    population: measured. collapse: below this diversity all but the champion are replaced by genomes drawn at random.
    """

    def __init__(
        self, population: Sequence[Record], *, space: Space, breeder: Breed, collapse: float
    ) -> None:
        self.members = ranked(population)
        self.size = len(self.members)
        self.space, self.breeder, self.collapse = space, breeder, collapse
        self.born: list[Record] = []
        self.diversity = diversity([record.genome for record in self.members])

    def ask(self, rng: np.random.Generator) -> Brood:
        """The next children. They race with the last elite: who is surely worse cannot be one."""
        if self.size > 1 and self.diversity < self.collapse:
            drawn = [Child(self.space.random(rng), "immigrant") for _ in range(self.size - 1)]
            return Brood(drawn, None, restarted=True, bred=False)
        children = self.breeder(self.members, self.born, rng)
        return Brood(children, self.members[: elites_of(self.size)][-1].genome)

    def tell(self, brood: Brood, records: Sequence[Record]) -> Generation:
        """The population after this generation. records: of the brood's children, in their order."""
        before = self.members[:1] if brood.restarted else self.members
        self.members = survivors(before, records, self.size)
        self.born = list(records) if brood.bred else []
        self.diversity = diversity([record.genome for record in self.members])
        return Generation(self.members, self.diversity, brood.restarted)


def evolve(
    population: Sequence[Record],
    generations: int,
    *,
    space: Space,
    breeder: Breed,
    measure: Measure,
    random: Callable[[int], np.random.Generator],
    birth: Birth,
    collapse: float,
) -> Iterator[Generation]:
    """Yield the population after each of `generations` generations.

    population: measured, best first. random: the stream of a generation, by its number. birth: what the
    children share (worker, round, seed); its generation is the number of the last generation before these.
    """
    evolution = Evolution(population, space=space, breeder=breeder, collapse=collapse)
    for number in range(birth.generation + 1, birth.generation + generations + 1):
        brood = evolution.ask(random(number))
        records = [
            measure(child.genome, child.birth(replace(birth, generation=number)), brood.rival)
            for child in brood.children
        ]
        yield evolution.tell(brood, records)
