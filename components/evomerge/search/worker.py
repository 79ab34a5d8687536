"""The search of one process: measures genomes, lives an island for a round, resumes where it was killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.tracking.progress import Progress

from .archive import Archive, Birth, Measurement, Record, ranked
from .cma import CmaBreeder
from .evolution import Breed, evolve, genetic
from .generation_zero import generation_zero
from .genome import Genome
from .history import entry, since_best
from .population import Population, Setting
from .space import Space

ATTEMPTS = (
    2  # a merge that fails is tried once more: a full memory or a busy device passes, a divergence does not
)


class Search:
    """evaluate: merges a genome and scores it, in a race with another where one is given, or raises.

    random: a numpy stream by its name, the same in
    every process.
    """

    def __init__(
        self,
        space: Space,
        setting: Setting,
        evaluate: Callable[[Genome, Genome | None], Measurement],
        *,
        random: Callable[[str], np.random.Generator],
        checkpoints: Checkpoints,
        progress: Progress,
    ) -> None:
        self.space, self.setting, self.evaluate = space, setting, evaluate
        self.random, self.checkpoints, self.progress = random, checkpoints, progress
        self.measured: dict[tuple[int, int, str], Record] = {}
        if (found := checkpoints.restore()) is not None:
            for line in found.state["records"]:
                self._keep(Record.from_json(line))
            progress.note(f"going on with {len(self.measured)} genomes that were measured before")

    def measure(self, genome: Genome, birth: Birth, rival: Genome | None, known: Archive) -> Record:
        """The record of a genome: from `known`, from before a kill, or by merging and scoring it now; it is in `known`
        then. A failure is a record too.

        How many items a genome sees depends on its rival. So islands of one process answer each other no more than
        islands in processes of their own could.
        """
        record = known.get(genome) or self.measured.get((birth.round, birth.worker, genome.hash))
        if record is None:
            record = self._keep(Record(genome, birth, self._attempt(genome, rival)))
            if self.checkpoints.due():
                records = [kept.to_json() for kept in self.measured.values()]
                self.checkpoints.save(len(records), {}, {"records": records})
                self.checkpoints.stop_if_asked()
        self.progress.step(fitness=record.fitness or 0.0)
        return known.add(record)

    def _keep(self, record: Record) -> Record:
        self.measured[record.birth.round, record.birth.worker, record.hash] = record
        return record

    def _attempt(self, genome: Genome, rival: Genome | None) -> Measurement:
        for _ in range(ATTEMPTS):
            try:
                return self.evaluate(genome, rival)
            except (RuntimeError, ArithmeticError, MemoryError) as failure:
                error = f"{type(failure).__name__}: {failure}".splitlines()[0]
                self.progress.note(f"{genome.method} {genome.hash} failed: {error}")
        return Measurement(None, error=error)

    def start(self) -> Population:
        """Generation 0, measured."""
        zero = generation_zero(self.space)
        self.progress.start("generation 0", len(zero))
        population = Population(self.setting, Archive())
        for origin, genome in zero:
            self.measure(genome, Birth(origin, seed=self.setting.seed), None, population.archive)
        records = list(population.archive)
        population.history.append(entry(records, round=0, worker=0, generation=0))
        return population

    def live(
        self,
        population: Population,
        *,
        worker: int,
        round: int,
        generations: int,
        size: int,
        breeder: str,
        collapse: float,
        patience: int,
    ) -> Population:
        """The population after this island has lived `generations` more generations, or fewer: it stops where its best has
        stayed the same for `patience` of them, those of earlier rounds counted too.

        What other islands do meanwhile is unknown here; `population.join` brings it together.
        """
        name = f"round {round}/island {worker}"
        birth = Birth(
            "", round=round, worker=worker, generation=population.generation, seed=self.setting.seed
        )
        self.progress.start(name, size * generations)
        history, born = list(population.history), Archive(population.archive)
        members = self._members(population, worker, size, birth, born)
        number = population.generation
        for generation in evolve(
            members,
            generations,
            space=self.space,
            breeder=self.breeder(breeder, size, name),
            measure=lambda genome, birth, rival: self.measure(genome, birth, rival, born),
            random=lambda step: self.random(f"{name}/generation {step}"),
            birth=birth,
            collapse=collapse,
        ):
            number += 1
            members = generation.population
            history.append(
                entry(members, round=round, worker=worker, generation=number, restarted=generation.restarted)
            )
            if since_best(history, worker) >= patience:
                self.progress.note(f"{name}: a plateau, nothing better for {patience} generations")
                break
        self.progress.done()
        islands = {worker: [record.hash for record in members]}
        return Population(self.setting, born, islands, history, number)

    def _members(
        self, population: Population, worker: int, size: int, birth: Birth, born: Archive
    ) -> list[Record]:
        """The island's own members, or the best of the archive where it has none yet, filled up at random."""
        own = population.islands.get(worker)
        pool = [population.archive[member] for member in own] if own else population.archive.ranked()
        members = pool[:size]
        rng = self.random(f"round {birth.round}/island {worker}/start")
        for _ in range(size - len(members)):
            members.append(
                self.measure(self.space.random(rng), replace(birth, origin="immigrant"), None, born)
            )
        return ranked(members)

    def breeder(self, name: str, size: int, stream: str) -> Breed:
        """A breeder by its name; what is random in it comes from `stream`."""
        if name == "catcma":
            return CmaBreeder(self.space, size, int(self.random(f"{stream}/catcma").integers(2**31)))
        return genetic(self.space)
