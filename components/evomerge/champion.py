"""The end of the search: who is the champion, and is it worth anything?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from components.shared.evaluation.claims import claim
from components.shared.runtime.errors import PhaseFailed

from .evaluation.trial import Trial
from .search.archive import Archive, Measurement, Record, ranked

Tick = Callable[[], None]


def finalists(archive: Archive, count: int) -> list[Record]:
    """The best `count` records of those that are no worse than all of generation 0, best first.

    Raises PhaseFailed where nothing of generation 0 could be measured.
    """
    floor = generation_zero(archive)[0]
    if floor.fitness is None:
        raise PhaseFailed("no merge could be measured", where="generation 0", why=floor.measurement.error)
    return [one for one in archive.ranked() if one.measurement.rank >= floor.measurement.rank][:count]


def generation_zero(archive: Archive) -> list[Record]:
    """Best first."""
    return ranked(record for record in archive if record.birth.generation == 0)


def choose(candidates: list[Record], trial: Trial, items: int, tick: Tick) -> tuple[Record, Measurement]:
    """The candidate that is best on the select split, and what it scored there.

    The best of hundreds on the search split is partly the luckiest one; the select split has seen none of them. As all
    candidates are no worse than generation 0 on the search split, neither is the champion.
    """
    judge = trial.judge("select", items)
    measured = []
    for record in candidates:
        measured.append(trial.measure(record.genome, judge))
        tick()
    best = max(range(len(measured)), key=lambda i: measured[i].rank)  # the first of equals
    return candidates[best], measured[best]


def compare(champion: Record, archive: Archive, trial: Trial, items: int, tick: Tick) -> list[dict[str, Any]]:
    """The champion beside the best parent and the best static merge (best on the search split), on the report split."""
    zero = generation_zero(archive)
    judge = trial.judge("report", items)
    ours = judge.answers(trial.model(champion.genome))
    tick()
    found = []
    for name, origins in (("best parent", ("parent",)), ("best static merge", ("static", "midpoint"))):
        control = next(
            (one for one in zero if one.fitness is not None and one.birth.origin.startswith(origins)), None
        )
        if control is not None:
            label = f"{name}: {title(control, trial.parents.names)}"
            theirs = judge.answers(trial.model(control.genome))
            found.append(
                claim(
                    f"evolution finds a better model than the {name}",
                    "champion",
                    ours.right,
                    label,
                    theirs.right,
                    unit="accuracy, report split",
                    seed=trial.seed,
                )
            )
        tick()
    return found


def title(record: Record, names: list[str]) -> str:
    """A parent's name, or the method with which it was merged."""
    origin, *numbers = record.birth.origin.split()
    if origin == "parent":
        return names[int(numbers[0])]
    if origin == "midpoint":
        return f"soup of {names[int(numbers[0])]} and {names[int(numbers[1])]}"
    return record.genome.method
