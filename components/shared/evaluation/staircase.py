"""Baseline assessment: where a model stands among the ten levels of each task, with an interval, from few questions.

A Bayesian adaptive staircase (QUEST+, Watson 2017; the Ψ method, Kontsevich & Tyler 1999) on the two-parameter logistic
model of item response theory, with the task's chance as its floor: a model of ability θ answers an item of level ℓ with
probability c(ℓ) + (1 − c(ℓ) − lapse)·σ(slope·(θ − ℓ)). The posterior over (θ, slope) is a table. Each round asks the
level whose answer is expected to leave the least entropy, of all tasks together, so that a round is one batch.

The place is the posterior's mean of θ: the level at which the model is half way between guessing and knowing. Its 95%
interval is the posterior's. Items are of the split `search`: what chooses never sees what reports.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import without_scratch
from components.shared.tasks.item import LEVELS, Item
from components.shared.tasks.registry import find, sample

ABILITIES = np.arange(-1.0, 12.01, 0.25)
"""θ: below all levels to above all of them."""
SLOPES = np.array([0.5, 1.0, 2.0, 4.0])
"""How sharply success falls from level to level, per level."""
LAPSE = 0.03
"""Share of wrong answers where a model knows."""
HIGHEST_CHANCE = 0.95
"""A level at which guessing is always right tells nothing; it is kept out of logarithms of zero."""

Answers = Callable[[Sequence[Item]], Sequence[bool]]
"""items → whether the model answers each of them rightly."""


@dataclass(frozen=True)
class Placement:
    """Where a model stands in one task.

    :param place: the level at which it is half way between guessing and knowing; below 1 or above 10 where it is outside.
    :param low: of the 95% credible interval; `high` is its other end.
    :param items: questions asked, `right` of them answered.
    :param success: level → the success rate to be expected there.
    """

    place: float
    low: float
    high: float
    items: int
    right: int
    success: dict[int, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dataclasses.asdict(self) | {"success": {str(n): rate for n, rate in self.success.items()}}


def success_rates(chance: np.ndarray) -> np.ndarray:
    """(levels, abilities, slopes) probability of a right answer.

    :param chance: (levels,) of a guesser, for levels 1, 2, ….
    """
    levels = np.arange(1, len(chance) + 1)[:, None, None]
    know = 1 / (1 + np.exp(-SLOPES * (ABILITIES[:, None] - levels)))
    floor = np.minimum(chance, HIGHEST_CHANCE)[:, None, None]
    return floor + np.maximum(1 - floor - LAPSE, 0.01) * know


class Staircase:
    """The posterior of one task.

    :param chance: (levels,) accuracy of a guesser at levels 1, 2, ….
    :param levels: those that can be asked.
    """

    def __init__(self, chance: np.ndarray, levels: Sequence[int]) -> None:
        self.rates = success_rates(chance)
        self.levels = list(levels)
        self.posterior = np.full(self.rates.shape[1:], 1 / self.rates[0].size)
        self.asked = self.right = 0

    def best_level(self) -> int:
        """The level whose next answer is expected to leave the least entropy; of equals the lowest."""
        rates = self.rates[[level - 1 for level in self.levels]]
        expected = np.zeros(len(self.levels))
        for likelihood in (rates, 1 - rates):
            joint = likelihood * self.posterior
            total = joint.sum(axis=(1, 2))
            after = joint / total[:, None, None]
            expected -= total * (after * np.log(np.maximum(after, 1e-300))).sum(axis=(1, 2))
        return self.levels[int(expected.argmin())]

    def observe(self, level: int, right: Sequence[bool]) -> None:
        """Take in answers to items of a level."""
        rate, hits = self.rates[level - 1], sum(map(bool, right))
        posterior = self.posterior * rate**hits * (1 - rate) ** (len(right) - hits)
        self.posterior = posterior / posterior.sum()
        self.asked, self.right = self.asked + len(right), self.right + hits

    def placement(self) -> Placement:
        """What is known so far."""
        marginal = self.posterior.sum(axis=1)
        low, high = np.interp([0.025, 0.975], np.cumsum(marginal), ABILITIES)
        success = (self.rates * self.posterior).sum(axis=(1, 2))
        return Placement(
            round(float(marginal @ ABILITIES), 2),
            round(float(low), 2),
            round(float(high), 2),
            self.asked,
            self.right,
            {level: round(float(success[level - 1]), 3) for level in self.levels},
        )


def assess(
    answers: Answers, tasks: Mapping[str, Sequence[int]], *, rounds: int, items: int, seed: int
) -> dict[str, Placement]:
    """Place a model in each task.

    :param answers: the model.
    :param tasks: task → the levels that may be asked; those of which the split has nothing are left out.
    :param rounds: batches; each asks every task at one level.
    :param items: of each task in a round.
    :raises InputError: a task has nothing at any of its levels.
    """
    stairs = {
        name: Staircase(
            np.array([find(name).chance(level) for level in LEVELS]), _askable(name, levels, seed)
        )
        for name, levels in tasks.items()
    }
    for round_ in range(rounds):
        asked: list[tuple[str, int, list[Item]]] = []
        for name, stair in stairs.items():
            level = stair.best_level()
            numbers = range(round_ * items, (round_ + 1) * items)
            drawn = [without_scratch(sample(name, "search", level, number, seed)) for number in numbers]
            asked.append((name, level, drawn))
        right = list(answers([item for _, _, drawn in asked for item in drawn]))
        for place, (name, level, _) in enumerate(asked):
            stairs[name].observe(level, right[place * items : (place + 1) * items])
    return {name: stair.placement() for name, stair in stairs.items()}


def _askable(name: str, levels: Sequence[int], seed: int) -> list[int]:
    """The levels at which the split `search` has something."""
    askable: list[int] = []
    for level in sorted(set(levels)):
        try:
            sample(name, "search", level, 0, seed)
        except InputError as error:
            nothing = error
            continue
        askable.append(level)
    if not askable:
        raise nothing
    return askable
