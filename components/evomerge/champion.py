"""The end of the search: who is the champion, and what it is worth beside the controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from components.shared.evaluation.claims import claim
from components.shared.runtime.errors import PhaseFailed

from .evaluation.merge_evaluator import MergeEvaluator
from .search.archive import Archive, Measurement, Record, ranked

Tick = Callable[[], None]


def finalists(archive: Archive, count: int) -> list[Record]:
    """The best records of those that are no worse than all of generation 0, best first.

    :param count: how many at most.
    :raises PhaseFailed: nothing of generation 0 could be measured.
    """
    floor = generation_zero(archive)[0]
    if floor.fitness is None:
        raise PhaseFailed("no merge could be measured", where="generation 0", why=floor.measurement.error)
    return [record for record in archive.ranked() if record.measurement.rank >= floor.measurement.rank][
        :count
    ]


def generation_zero(archive: Archive) -> list[Record]:
    """Best first."""
    return ranked(record for record in archive if record.provenance.generation == 0)


def choose(
    candidates: list[Record], evaluator: MergeEvaluator, items: int, tick: Tick
) -> tuple[Record, Measurement]:
    """The candidate that is best on the select split, and what it scored there.

    The best of hundreds on the search split is partly the luckiest one; the select split has seen none of them. As all
    candidates are no worse than generation 0 on the search split, neither is the champion.

    :param items: of each suite.
    :param tick: called after each candidate.
    """
    scorer = evaluator.scorer("select", items)
    measurements = []
    for record in candidates:
        measurements.append(evaluator.measure(record.genome, scorer))
        tick()
    best = max(range(len(measurements)), key=lambda i: measurements[i].rank)  # the first of equals
    return candidates[best], measurements[best]


def compare(
    champion: Record, archive: Archive, evaluator: MergeEvaluator, items: int, tick: Tick
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The champion beside the best parent and the best static merge (best on the search split), on the report split.

    :param items: of each suite.
    :param tick: called three times.
    :returns: one claim a control; and the fitness of champion and base there, which has chosen neither. The base is the
        trunk of the parents; where they carry none, the best parent.
    """
    scorer = evaluator.scorer("report", items)
    ours = scorer.answers(evaluator.model(champion.genome))
    figures = {"fitness_report": scorer.measurement(ours).fitness or 0.0}
    tick()
    claims = []
    for name, origins in (("best parent", ("parent",)), ("best static merge", ("static", "midpoint"))):
        control = _best_of(archive, origins)
        if control is not None:
            label = f"{name}: {title(control, evaluator.parents.names)}"
            theirs = scorer.answers(evaluator.model(control.genome))
            claims.append(
                claim(
                    f"evolution finds a better model than the {name}",
                    "champion",
                    ours.right,
                    label,
                    theirs.right,
                    unit="accuracy, report split",
                    seed=evaluator.seed,
                )
            )
        tick()
    base = _best_of(archive, ("base",)) or _best_of(archive, ("parent",))
    if base is not None:
        theirs = scorer.answers(evaluator.model(base.genome))
        figures["fitness_report_base"] = scorer.measurement(theirs).fitness or 0.0
    return claims, figures


def _best_of(archive: Archive, origins: tuple[str, ...]) -> Record | None:
    """The best of generation 0 that has one of these origins and could be measured."""
    return next(
        (
            record
            for record in generation_zero(archive)
            if record.fitness is not None and record.provenance.origin.startswith(origins)
        ),
        None,
    )


def title(record: Record, names: list[str]) -> str:
    """A parent's name, or the method with which it was merged."""
    origin, *numbers = record.provenance.origin.split()
    if origin == "parent":
        return names[int(numbers[0])]
    if origin == "midpoint":
        return f"soup of {names[int(numbers[0])]} and {names[int(numbers[1])]}"
    return record.genome.method
