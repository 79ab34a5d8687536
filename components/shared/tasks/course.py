"""A course of ten rungs, built from where a model stands: what each mixes, at which levels, and when to go up or down.

Four kinds of data make a rung: synthetic examples (the tasks that are trained), organic text, retrieval-augmented
questions, and scenarios of several agents. Their shares are given; those of retrieval and scenarios grow from half of it
on rung 1 to one and a half on rung 10, at the expense of the synthetic ones.

The model starts on the rung of its mean place. There, each task is at the level at which the model stands in it, so that
what it does well is asked harder than what it does badly; a rung up is a level up in every task, as far as its levels go.
Success inside a band holds the rung, above it the model goes up, below it down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .item import LEVELS

DataKind = Literal["organic", "retrieval", "scenarios"]
RUNGS = range(1, 11)

SOURCES: dict[DataKind, dict[str, float]] = {
    "organic": {"prose": 1.0, "cloze": 1.0},
    "retrieval": {"augmented": 1.0},
    "scenarios": {"scenario/asker": 1.0, "scenario/solver": 1.0, "scenario/checker": 1.0},
}
"""Where the kinds beside the synthetic one are drawn from, where nothing else is said."""


@dataclass(frozen=True)
class Rung:
    """One of the ten.

    :param number: 1 to 10.
    :param tasks: task → how often it is drawn; the weights sum to one.
    :param levels: task → its level here, and the one below it to be gone over again; rising.
    :param kinds: kind of data → its share.
    """

    number: int
    tasks: dict[str, float]
    levels: dict[str, list[int]]
    kinds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, weights rounded."""
        return {
            "rung": self.number,
            "kinds": {kind: round(share, 4) for kind, share in self.kinds.items()},
            "tasks": {
                task: {"weight": round(weight, 4), "level": self.levels[task][-1]}
                for task, weight in self.tasks.items()
            },
        }


def starting_rung(places: Mapping[str, float]) -> int:
    """The rung on which a model starts: the mean of its places."""
    return _within(round(sum(places.values()) / len(places)), RUNGS)


def build(
    places: Mapping[str, float],
    tasks: Mapping[str, float],
    levels: Mapping[str, Sequence[int]],
    shares: Mapping[DataKind, float],
    sources: Mapping[DataKind, Mapping[str, float]],
) -> list[Rung]:
    """The ten rungs.

    :param places: task → the level at which the model stands; a task that was not assessed stands where the mean is.
    :param tasks: the synthetic tasks, with weights.
    :param levels: task → the levels that it may be asked at; one without an entry may be asked at all.
    :param shares: kind → its share in the middle of the course; the synthetic tasks have the rest.
    :param sources: kind → its tasks, with weights.
    """
    start = starting_rung(places)
    rungs = []
    for number in RUNGS:
        growth = 0.5 + (number - RUNGS[0]) / (RUNGS[-1] - RUNGS[0])
        kinds = {
            kind: share * (1.0 if kind == "organic" else growth) for kind, share in shares.items() if share
        }
        parts: dict[str, tuple[float, Mapping[str, float]]] = {
            "synthetic": (1 - sum(kinds.values()), tasks),
            **{kind: (share, sources[kind]) for kind, share in kinds.items()},
        }
        weights: dict[str, float] = {}
        for share, of_kind in parts.values():
            for task, weight in of_kind.items():
                weights[task] = weights.get(task, 0.0) + share * weight / sum(of_kind.values())
        at = {
            task: sorted({_within(level, levels.get(task, LEVELS)) for level in (here - 1, here)})
            for task in weights
            for here in [round(places.get(task, start)) + number - start]
        }
        rungs.append(Rung(number, weights, at, {kind: share for kind, (share, _) in parts.items()}))
    return rungs


def success(rung: Rung, rates: Mapping[str, float], verifiable: Sequence[str]) -> float:
    """The success rate on a rung: the mean over its tasks that have right answers, by weight.

    :param rates: "task level" → success rate; a cell without one counts one half.
    :param verifiable: the tasks that count; text to model has no right answer.
    """
    weights = {task: rung.tasks[task] for task in verifiable if rung.tasks.get(task)}
    total = sum(weights.values())
    return sum(w * rates.get(f"{task} {rung.levels[task][-1]}", 0.5) for task, w in weights.items()) / total


def progressed(rung: int, success_rate: float, low: float, high: float) -> int:
    """The rung after this one: up above the band, down below it, else the same."""
    step = 1 if success_rate > high else -1 if success_rate < low else 0
    return _within(rung + step, RUNGS)


def _within(level: int, allowed: Sequence[int]) -> int:
    """The allowed level that is nearest; of two the lower one."""
    return min(sorted(allowed), key=lambda other: abs(other - level))
