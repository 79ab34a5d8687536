"""The archive: every genome that was ever measured, once, with where it came from and what it scored.

It is the cache of the search (a genome that comes up again costs nothing), the pool from which champions and
migrants are taken, and, written line by line, the lineage log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .genome import Genome


@dataclass(frozen=True)
class Measurement:
    """What one merged model scored on the search split; fitness None says that it failed, and error says why.

    :param fitness: higher is better.
    :param scores: by task, the share of right answers.
    :param loss: mean answer NLL in nats a token; decides between equal fitness.
    :param seen: the share of the items that it is of (race.py).
    """

    fitness: float | None
    scores: dict[str, float] = field(default_factory=dict)
    loss: float | None = None
    error: str = ""
    seen: float = 1.0

    @property
    def rank(self) -> tuple[float, float, float]:
        """Sort key: greater is better, a failure below everything, who has left a race below who has not."""
        if self.fitness is None:
            return (0.0, 0.0, 0.0)
        return (self.seen, self.fitness, 0.0 if self.loss is None else -self.loss)


@dataclass(frozen=True)
class Provenance:
    """Where a genome came from: by which step, out of which genomes (hashes), and when."""

    origin: str
    parents: tuple[str, ...] = ()
    round: int = 0
    worker: int = 0
    generation: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Record:
    """A genome, where it came from, and what it scored."""

    genome: Genome
    provenance: Provenance
    measurement: Measurement

    @property
    def hash(self) -> str:
        """Of the genome."""
        return self.genome.hash

    @property
    def fitness(self) -> float | None:
        """None for a failure."""
        return self.measurement.fitness

    @property
    def finished(self) -> bool:
        """Whether its fitness is of all items, and so comparable with that of others."""
        return self.measurement.fitness is not None and self.measurement.seen == 1

    def to_json(self) -> dict[str, Any]:
        """One line of the lineage log."""
        provenance, measurement = self.provenance, self.measurement
        return {
            "genome": self.hash,
            "parents": list(provenance.parents),
            "origin": provenance.origin,
            "round": provenance.round,
            "worker": provenance.worker,
            "generation": provenance.generation,
            "seed": provenance.seed,
            "fitness": measurement.fitness,
            "loss": measurement.loss,
            "scores": measurement.scores,
            "error": measurement.error,
            "seen": measurement.seen,
            "genes": self.genome.to_json(),
        }

    def summary(self) -> dict[str, Any]:
        """What the report shows of a member of a population."""
        return {
            "genome": self.hash,
            "method": self.genome.method,
            "origin": self.provenance.origin,
            "parents": list(self.provenance.parents),
            "worker": self.provenance.worker,
            "fitness": self.fitness,
            "loss": self.measurement.loss,
            "seen": self.measurement.seen,
            "scores": self.measurement.scores,
        }

    @staticmethod
    def from_json(line: dict[str, Any]) -> Record:
        """What `to_json` returned."""
        return Record(
            Genome.from_json(line["genes"]),
            Provenance(
                line["origin"],
                tuple(line["parents"]),
                line["round"],
                line["worker"],
                line["generation"],
                line["seed"],
            ),
            Measurement(line["fitness"], line["scores"], line["loss"], line["error"], line["seen"]),
        )


class Archive:
    """Records by genome hash, in the order in which they were added; the first record of a genome stays."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records: dict[str, Record] = {}
        for record in records:
            self.add(record)

    def add(self, record: Record) -> Record:
        """Add a record; the one that is kept of its genome."""
        return self._records.setdefault(record.hash, record)

    def get(self, genome: Genome) -> Record | None:
        """The record of a genome, if it was measured."""
        return self._records.get(genome.hash)

    def __getitem__(self, genome_hash: str) -> Record:
        return self._records[genome_hash]

    def __contains__(self, genome_hash: object) -> bool:
        return genome_hash in self._records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def ranked(self) -> list[Record]:
        """Best first."""
        return ranked(self)

    def best(self) -> Record:
        """The best ranked."""
        return self.ranked()[0]

    def pareto(self) -> list[Record]:
        """The records that no other beats on one task without losing on another, best fitness first.

        Of several with the same scores the best ranked stays.
        """
        front: list[Record] = []
        for record in self.ranked():
            scores = record.measurement.scores
            if not record.finished:
                continue
            if not any(_covers(other.measurement.scores, scores) for other in front):
                front = [other for other in front if not _covers(scores, other.measurement.scores)]
                front.append(record)
        return front


def ranked(records: Iterable[Record]) -> list[Record]:
    """Best first; equals in their order, failures last."""
    return sorted(records, key=lambda record: record.measurement.rank, reverse=True)


def _covers(a: dict[str, float], b: dict[str, float]) -> bool:
    """At least as good on every task."""
    return all(a[task] >= b[task] for task in b)


def lineage(records: Iterable[Record]) -> str:
    """JSON Lines, one record a line."""
    return "".join(json.dumps(record.to_json(), sort_keys=True) + "\n" for record in records)


def from_lineage(text: str) -> list[Record]:
    """What `lineage` wrote."""
    return [Record.from_json(json.loads(line)) for line in text.splitlines()]
