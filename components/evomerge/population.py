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
    """What makes two fitness values comparable: the same parents, judged on the same items in the same
    way.
    """

    models: tuple[str, ...]
    seed: int
    suites: tuple[str, ...]
    items: int
    fitness: str
    calibration: int  # items of each suite

    def differences(self, other: Setting) -> list[str]:
        mine, theirs = asdict(self), asdict(other)
        return [name for name in mine if mine[name] != theirs[name]]


@dataclass
class Population:
    """The search so far.

    islands: worker → hashes of its members, best first. history: one entry a generation of an island: round,
    worker, generation, best, mean, diversity, restarted, members (hashes).
    """

    setting: Setting
    archive: Archive
    islands: dict[int, list[str]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    generation: int = 0

    def write(self, folder: Path) -> None:
        content = {
            "format": FORMAT,
            "setting": asdict(self.setting),
            "generation": self.generation,
            "islands": {str(worker): members for worker, members in self.islands.items()},
            "history": self.history,
        }
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
        setting = content["setting"]
        setting["models"], setting["suites"] = tuple(setting["models"]), tuple(setting["suites"])
        return Population(
            Setting(**setting),
            Archive(records),
            {int(worker): members for worker, members in content["islands"].items()},
            content["history"],
            content["generation"],
        )


def join(results: Sequence[Population]) -> Population:
    """One population out of those of all workers: archives united, champions migrated around the ring of
    islands.

    The order of `results` does not matter. Raises InputError where they belong to different searches.
    """
    results = sorted(results, key=lambda result: min(result.islands, default=0))
    first = results[0]
    for other in results[1:]:
        if differences := first.setting.differences(other.setting):
            raise InputError(
                "the results are of different searches",
                where="input results",
                why=f"they differ in {', '.join(differences)}",
                fix="give the results of one round, made from the same models with the same settings",
            )
    archive = Archive(record for result in results for record in result.archive)
    islands = {worker: members for result in results for worker, members in result.islands.items()}
    history = {
        (entry["round"], entry["worker"], entry["generation"]): entry
        for result in results
        for entry in result.history
    }
    return Population(
        first.setting,
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
