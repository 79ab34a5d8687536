"""The search of one process: measures genomes, lives an island for a round, resumes where it was killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.tracking.progress import Progress

from .archive import Archive, Measurement, Provenance, Record, ranked
from .catcma import CatCmaStrategy
from .evolution import EvolutionParameters, Strategy, evolve, genetic
from .generation_zero import generation_zero
from .genome import Genome
from .history import entry, since_best
from .population import Population, SearchIdentity
from .space import SearchSpace

ATTEMPTS = (
    2  # a merge that fails is tried once more: a full memory or a busy device passes, a divergence does not
)


class Search:
    """Measures genomes, once each, and lets populations evolve.

    :param space: of genomes.
    :param identity: of the search, for what it leaves.
    :param evaluate: merges a genome and scores it, in a race with another where there is one, or raises.
    :param random: a numpy stream by its name, the same in every process.
    :param checkpoints: keep what was measured.
    :param progress: learns of every genome.
    """

    def __init__(
        self,
        space: SearchSpace,
        identity: SearchIdentity,
        evaluate: Callable[[Genome, Genome | None], Measurement],
        *,
        random: Callable[[str], np.random.Generator],
        checkpoints: Checkpoints,
        progress: Progress,
    ) -> None:
        self.space, self.identity, self.evaluate = space, identity, evaluate
        self.random, self.checkpoints, self.progress = random, checkpoints, progress
        self.measured: dict[tuple[int, int, str], Record] = {}
        if (checkpoint := checkpoints.restore()) is not None:
            for line in checkpoint.state["records"]:
                self._keep(Record.from_json(line))
            progress.note(f"going on with {len(self.measured)} genomes that were measured before")

    def measure(self, genome: Genome, provenance: Provenance, rival: Genome | None, known: Archive) -> Record:
        """The record of a genome: from `known`, from before a kill, or by merging and scoring it now.

        A failure is a record too. How many items a genome sees depends on its rival. So islands of one process answer each
        other no more than islands in processes of their own could.

        :param provenance: where the genome comes from.
        :param rival: whom it races with.
        :param known: the record is in it afterwards.
        """
        record = known.get(genome) or self.measured.get((provenance.round, provenance.worker, genome.hash))
        if record is None:
            record = self._keep(Record(genome, provenance, self._attempt(genome, rival)))
            if self.checkpoints.due():
                records = [record.to_json() for record in self.measured.values()]
                self.checkpoints.save(len(records), {}, {"records": records})
                self.checkpoints.stop_if_asked()
        self.progress.step(fitness=record.fitness or 0.0)
        return known.add(record)

    def _keep(self, record: Record) -> Record:
        self.measured[record.provenance.round, record.provenance.worker, record.hash] = record
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
        population = Population(self.identity, Archive())
        for origin, genome in zero:
            self.measure(genome, Provenance(origin, seed=self.identity.seed), None, population.archive)
        records = list(population.archive)
        population.history.append(entry(records, round=0, worker=0, generation=0))
        return population

    def evolve_island(
        self,
        population: Population,
        *,
        worker: int,
        round: int,
        generations: int,
        parameters: EvolutionParameters,
    ) -> Population:
        """The population after this island has lived some more generations.

        It stops earlier where its best has stayed the same for as many of them as its patience, those of earlier rounds
        counted too. What other islands do meanwhile is unknown here; `join_islands` brings it together.

        :param population: what the last selection left.
        :param worker: the island's number.
        :param round: this round's.
        :param generations: how many.
        :param parameters: how the island evolves.
        """
        name = f"round {round}/island {worker}"
        provenance = Provenance(
            "", round=round, worker=worker, generation=population.generation, seed=self.identity.seed
        )
        self.progress.start(name, parameters.size * generations)
        history, archive = list(population.history), Archive(population.archive)
        members = self._members(population, worker, parameters.size, provenance, archive)
        number = population.generation
        for generation in evolve(
            members,
            generations,
            space=self.space,
            strategy=self.strategy(parameters.strategy, parameters.size, name),
            measure=lambda genome, provenance, rival: self.measure(genome, provenance, rival, archive),
            random=lambda step: self.random(f"{name}/generation {step}"),
            provenance=provenance,
            collapse=parameters.collapse,
        ):
            number += 1
            members = generation.population
            history.append(
                entry(members, round=round, worker=worker, generation=number, restarted=generation.restarted)
            )
            if since_best(history, worker) >= parameters.patience:
                self.progress.note(f"{name}: a plateau, nothing better for {parameters.patience} generations")
                break
        self.progress.done()
        islands = {worker: [record.hash for record in members]}
        return Population(self.identity, archive, islands, history, number)

    def _members(
        self, population: Population, worker: int, size: int, provenance: Provenance, archive: Archive
    ) -> list[Record]:
        """The island's own members, or the best of the archive where it has none yet, filled up at random."""
        own = population.islands.get(worker)
        pool = [population.archive[member] for member in own] if own else population.archive.ranked()
        members = pool[:size]
        rng = self.random(f"round {provenance.round}/island {worker}/start")
        for _ in range(size - len(members)):
            members.append(
                self.measure(self.space.random(rng), replace(provenance, origin="immigrant"), None, archive)
            )
        return ranked(members)

    def strategy(self, name: str, size: int, stream: str) -> Strategy:
        """A strategy by its name; what is random in it comes from `stream`."""
        if name == "catcma":
            return CatCmaStrategy(self.space, size, int(self.random(f"{stream}/catcma").integers(2**31)))
        return genetic(self.space)
