"""What passes between workers and selections: the archive, the islands and their history, as plain JSON
files.

population.json holds everything but the records, lineage.jsonl one record a line. Weights are never shipped:
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

FORMAT = 2
POPULATION = "population.json"
LINEAGE = "lineage.jsonl"


@dataclass(frozen=True)
class Setting:
    """What makes two populations of one search: the same parents, judged on the same items in the same way, and evolved
    in the same way (`fan_out`, settings.py).
    """

    models: tuple[str, ...]
    seed: int
    suites: tuple[str, ...]
    items: int
    fitness: str
    calibration: int  # items of each suite
    fan_out: str = "islands"

    def differences(self, other: Setting) -> list[str]:
        mine, theirs = asdict(self), asdict(other)
        return [name for name in mine if mine[name] != theirs[name]]


@dataclass(frozen=True)
class Shard:
    """A worker's part of one generation of the one population (sharing.py).

    size: of the population. members: hashes of those that the children compete with; in round 0 generation 0, of which
    the best `size` are the first population. children: hashes of the whole generation in the order in which they were
    bred; none after a plateau. restarted: the members but for the first had collapsed.
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

    islands: worker → hashes of its members, best first. history: one entry a generation of an island: round,
    worker, generation, best, mean, diversity, restarted, members (hashes). Where evaluations are shared out there is one
    island, 0; what its worker leaves is a `shard`. answers: hash → what possible rivals of the next children answer, as
    judge.Answers has it, so that no worker has to ask them again.
    """

    setting: Setting
    archive: Archive
    islands: dict[int, list[str]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    generation: int = 0
    shard: Shard | None = None
    answers: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        content = {
            "format": FORMAT,
            "setting": asdict(self.setting),
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
        """Raises InputError when the folder holds no population that this version reads."""
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
        setting, shard = content["setting"], content.get("shard")
        setting["models"], setting["suites"] = tuple(setting["models"]), tuple(setting["suites"])
        return Population(
            Setting(**setting),
            Archive(records),
            {int(worker): members for worker, members in content["islands"].items()},
            content["history"],
            content["generation"],
            None if shard is None else Shard(**shard),
            content.get("answers", {}),
        )


def require_one_search(results: Sequence[Population]) -> None:
    """Raises InputError where results belong to different searches."""
    first = results[0]
    for other in results[1:]:
        if differences := first.setting.differences(other.setting):
            raise InputError(
                "the results are of different searches",
                where="input results",
                why=f"they differ in {', '.join(differences)}",
                fix="give the results of one round, made from the same models with the same settings",
            )


def join(results: Sequence[Population]) -> Population:
    """One population out of those of all workers: archives united, champions migrated around the ring of
    islands.

    The order of `results` does not matter. Raises InputError where they belong to different searches.
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
        results[0].setting,
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
    for place, worker in enumerate(order):
        members = islands[worker]
        guest = islands[order[place - 1]][0]
        if guest not in members:
            members = [*members[:-1], guest] if len(members) > 1 else members
        after[worker] = [record.hash for record in ranked(archive[member] for member in members)]
    return after
