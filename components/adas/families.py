"""Families of tasks for experts, and whether the base can learn in them: it must be right at times, and not always."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from components.shared.evaluation.cells import shares
from components.shared.evaluation.suites import draw
from components.shared.tasks.item import Item, Split
from components.shared.tasks.registry import sample

OTHER = "other"
"""The dispatcher's class of whatever belongs to no family."""

Class = tuple[Sequence[str], Sequence[int]]
"""What a class of the dispatcher consists of: tasks and levels, drawn in turn."""


def held_out(tasks: Sequence[str], split: Split, levels: Sequence[int], count: int, seed: int) -> list[Item]:
    """`count` different items, the tasks and the levels in equal shares; fewer of an easy level that has no more."""
    cells = [(task, level) for level in levels for task in tasks]
    counts = shares([1.0] * len(cells), count)
    return [
        item
        for (task, level), each in zip(cells, counts, strict=True)
        for item in (draw(task, split, level, each, seed, enough=1) if each else [])
    ]


def questions(
    tasks: Sequence[str], split: Split, levels: Sequence[int], step: int, count: int, seed: int
) -> list[Item]:
    """The `count` items of a step: all tasks in turn, then the next level."""
    return [
        sample(tasks[index % len(tasks)], split, levels[index // len(tasks) % len(levels)], index, seed)
        for index in range(step * count, (step + 1) * count)
    ]


def success_rates(
    tasks: Sequence[str],
    levels: Sequence[int],
    success: Callable[[Sequence[Item]], np.ndarray],
    *,
    low: float,
    count: int,
    seed: int,
) -> dict[int, float]:
    """How often the base succeeds on the search split, up to the first level where it does below `low`.

    :param success: items → (n,) bool, of the base.
    :param count: items of a level.
    :returns: level → success rate.
    """
    rates: dict[int, float] = {}
    for level in sorted(levels):
        rates[level] = float(success(held_out(tasks, "search", [level], count, seed)).mean())
        if rates[level] < low:
            break  # higher levels are harder
    return rates


def learnable(rates: Mapping[int, float], low: float, high: float) -> list[int]:
    """The levels at which an expert can learn: where the base is right at times, and not always.

    :param rates: level → success rate of the base.
    """
    return [level for level, rate in rates.items() if low <= rate <= high]
