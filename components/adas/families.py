"""Families of tasks for experts, and whether the base can learn in them: it must be right at times, and not always."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from components.shared.evaluation.suites import draw, shares
from components.shared.tasks.item import Item, Split
from components.shared.tasks.registry import sample

from .settings import Family, Settings

OTHER = "other"
"""The dispatcher's class of whatever belongs to no family."""


def held_out(family: Family, split: Split, levels: Sequence[int], count: int, seed: int) -> list[Item]:
    """`count` different items of a family, its tasks and the levels in equal shares; fewer of an easy level that has no
    more."""
    cells = [(task, level) for level in levels for task in family.tasks]
    counts = shares([1.0] * len(cells), count)
    return [
        item
        for (task, level), each in zip(cells, counts, strict=True)
        for item in (draw(task, split, level, each, seed, enough=1) if each else [])
    ]


def questions(family: Family, levels: Sequence[int], step: int, count: int, seed: int) -> list[Item]:
    """The `count` training items of a step: all tasks in turn, then the next level."""
    tasks, first = family.tasks, step * count
    return [
        sample(tasks[place % len(tasks)], "train", levels[place // len(tasks) % len(levels)], place, seed)
        for place in range(first, first + count)
    ]


def rates(
    family: Family, success: Callable[[Sequence[Item]], np.ndarray], *, low: float, count: int, seed: int
) -> dict[int, float]:
    """Level → how often the base succeeds on the search split, up to the first level where it does below `low`.

    :param success: items → (n,) bool, of the base.
    """
    found: dict[int, float] = {}
    for level in sorted(family.levels):
        found[level] = float(success(held_out(family, "search", [level], count, seed)).mean())
        if found[level] < low:
            break  # higher levels are harder
    return found


def learnable(found: dict[int, float], low: float, high: float) -> list[int]:
    """The levels at which an expert can learn: where the base is right at times, and not always."""
    return [level for level, rate in found.items() if low <= rate <= high]


def classes(settings: Settings) -> list[str]:
    """What the dispatcher tells apart."""
    return [*(family.name for family in settings.families), OTHER]


def questions_of_class(settings: Settings, name: str, split: Split, seed: int) -> list[Item]:
    """`dispatch_items` questions of a class of the dispatcher, over its tasks and levels in turn."""
    families = {family.name: family for family in settings.families}
    if name == OTHER:
        tasks = settings.other_tasks
        levels = sorted({level for family in settings.families for level in family.levels})
    else:
        tasks, levels = families[name].tasks, families[name].levels
    return [
        sample(tasks[index % len(tasks)], split, levels[index // len(tasks) % len(levels)], index, seed)
        for index in range(settings.dispatch_items)
    ]
