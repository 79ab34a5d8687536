"""What passes between workers and selections: the archive, the islands and their history, as plain JSON files.

population.json holds everything but the records, lineage.jsonl one record a line. WeightsWriter are never shipped:
whoever has the parents and a genome has the model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import InputError

from .archive import Archive, from_lineage, lineage, ranked

FORMAT = 3
POPULATION = "population.json"
LINEAGE = "lineage.jsonl"


@dataclass(frozen=True)
class SearchIdentity:
    """What makes two populations of one search.

    The same parents, scored on the same items in the same way, and evolved in the same way.

    :param models: digests of the parents, in order.
    :param items: of each suite.
    :param calibration: items of each suite.
    :param fan_out: what workers share (settings.py).
    """

    models: tuple[str, ...]
    seed: int
    suites: tuple[str, ...]
    items: int
    fitness: str
    calibration: int
    fan_out: str = "islands"

    def differences(self, other: SearchIdentity) -> list[str]:
        """The names of the fields that differ."""
        mine, theirs = asdict(self), asdict(other)
        return [name for name in mine if mine[name] != theirs[name]]


@dataclass(frozen=True)
class Shard:
    """A worker's part of one generation of the one population (shards.py).

    :param size: of the population.
    :param members: hashes of those that the children compete with; in round 0 generation 0, of which the best `size` are
        the first population.
    :param children: hashes of the whole generation in the order in which they were made; none after a plateau.
    :param restarted: the members but for the first had collapsed.
    """

    index: int
    workers: int
    round: int
    size: int
    members: list[str]
    children: list[str]
    restarted: bool = False


@dataclass
class Population:
    """The search so far.

    Where evaluations are shared out there is one island, 0; what its worker leaves is a `shard`.

    :param islands: worker → hashes of its members, best first.
    :param history: one entry a generation of an island (history.py).
    :param answers: hash → what possible rivals of the next children answer, as `AnswerScores` has it, so that no worker
        has to ask them again.
    """

    identity: SearchIdentity
    archive: Archive
    islands: dict[int, list[str]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    generation: int = 0
    shard: Shard | None = None
    answers: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the two files."""
        content = {
            "format": FORMAT,
            "identity": asdict(self.identity),
            "generation": self.generation,
            "islands": {str(worker): members for worker, members in self.islands.items()},
            "history": self.history,
        }
        if self.shard is not None:
            content["shard"] = asdict(self.shard)
        if self.answers:
            content["answers"] = self.answers
        (folder / POPULATION).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        (folder / LINEAGE).write_text(lineage(self.archive))

    @staticmethod
    def read(folder: Path) -> Population:
        """What `write` wrote.

        :raises InputError: the folder holds no population that this version reads.
        """
        try:
            content = json.loads((folder / POPULATION).read_text())
            records = from_lineage((folder / LINEAGE).read_text())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                "this is no population",
                where=str(folder),
                why=str(error),
                fix="give what a worker or a selection wrote",
            ) from error
        if content.get("format") != FORMAT:
            raise InputError(
                f"the population has format {content.get('format')!r}",
                where=str(folder / POPULATION),
                fix=f"run the search again; this version reads format {FORMAT}",
            )
        identity, shard = content["identity"], content.get("shard")
        identity["models"], identity["suites"] = tuple(identity["models"]), tuple(identity["suites"])
        return Population(
            SearchIdentity(**identity),
            Archive(records),
            {int(worker): members for worker, members in content["islands"].items()},
            content["history"],
            content["generation"],
            None if shard is None else Shard(**shard),
            content.get("answers", {}),
        )


def require_one_search(results: Sequence[Population]) -> None:
    """Refuse results of different searches.

    :raises InputError: they differ in their identity.
    """
    first = results[0]
    for other in results[1:]:
        if differences := first.identity.differences(other.identity):
            raise InputError(
                "the results are of different searches",
                where="input results",
                why=f"they differ in {', '.join(differences)}",
                fix="give the results of one round, made from the same models with the same settings",
            )


def join_islands(results: Sequence[Population]) -> Population:
    """One population out of those of all workers: archives united, champions migrated around the ring of islands.

    :param results: in any order.
    :raises InputError: they belong to different searches.
    """
    results = sorted(results, key=lambda result: min(result.islands, default=0))
    require_one_search(results)
    archive = Archive(record for result in results for record in result.archive)
    islands = {worker: members for result in results for worker, members in result.islands.items()}
    history = {
        (entry["round"], entry["worker"], entry["generation"]): entry
        for result in results
        for entry in result.history
    }
    return Population(
        results[0].identity,
        archive,
        migrate(islands, archive),
        list(history.values()),
        max(result.generation for result in results),
    )


def migrate(islands: dict[int, list[str]], archive: Archive) -> dict[int, list[str]]:
    """The champion of each island takes the place of the worst member of the next one (a ring, by worker).

    An island that has the champion already, or one alone, stays as it is.
    """
    order = sorted(islands)
    after = {}
    for position, worker in enumerate(order):
        members = islands[worker]
        guest = islands[order[position - 1]][0]
        if guest not in members:
            members = [*members[:-1], guest] if len(members) > 1 else members
        after[worker] = [record.hash for record in ranked(archive[member] for member in members)]
    return after
