"""Families of tasks for experts, and whether the base can learn in them: it must be right at times, and not always."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from components.shared.evaluation.suites import draw, shares
from components.shared.tasks.item import Item, Split
from components.shared.tasks.registry import sample

from .settings import Family

OTHER = "other"
"""The dispatcher's class of whatever belongs to no family."""


class Gate(NamedTuple):
    """What the base does in a family.

    levels   level → success on the search split, as far as it was measured
    level    the one to learn at, or None: skipped
    """

    levels: dict[int, float]
    level: int | None


def held_out(family: Family, split: Split, level: int, count: int, seed: int) -> list[Item]:
    """`count` different items of a family, its tasks in equal shares."""
    counts = shares([1.0] * len(family.tasks), count)
    return [
        item
        for task, each in zip(family.tasks, counts, strict=True)
        for item in (draw(task, split, level, each, seed) if each else [])
    ]


def questions(family: Family, level: int, step: int, count: int, seed: int) -> list[Item]:
    """The `count` training items of a step."""
    tasks = family.tasks
    return [sample(tasks[row % len(tasks)], "train", level, step * count + row, seed) for row in range(count)]


def gate(
    family: Family,
    success: Callable[[Sequence[Item]], np.ndarray],
    *,
    low: float,
    high: float,
    count: int,
    seed: int,
) -> Gate:
    """The level at which the base succeeds nearest to one half, within [low, high]: there rewards differ most.

    :param success: items → (n,) bool, of the base.
    """
    found: dict[int, float] = {}
    for level in sorted(family.levels):
        found[level] = float(success(held_out(family, "search", level, count, seed)).mean())
        if found[level] < low:
            break  # higher levels are harder
    fit = [level for level, rate in found.items() if low <= rate <= high]
    return Gate(found, min(fit, key=lambda level: abs(found[level] - 0.5)) if fit else None)
