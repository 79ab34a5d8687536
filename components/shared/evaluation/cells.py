"""The five suites: which tasks at which levels, and how many items of each.

reasoning       calculation, order, words, at the levels of training
memory          facts found again in the context
generalization  families and levels that have no training split: skills put together anew, and far longer items
efficiency      easy items answered with the answer alone: right, and ended by the model's own <eos> at once
safety          balanced accuracy over requests to obey and to refuse

A file of items is a suite too: `file:PATH`. So are ARC's puzzles, `arc` or `arc:FOLDER`, with two attempts at each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from components.shared.runtime.config.settings import ARC, FILE, SUITES
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean
from components.shared.tasks.generators.arc import puzzles
from components.shared.tasks.item import HELD_OUT_SUITE, LEVELS, Split
from components.shared.tasks.registry import find


class Cell(NamedTuple):
    """One task at one level, and its share of a suite."""

    task: str
    level: int
    weight: float = 1.0


CELLS: dict[str, tuple[Cell, ...]] = {
    "reasoning": (
        Cell("chain", 1),
        Cell("chain", 2),
        Cell("chain", 3),
        Cell("max", 1),
        Cell("max", 3),
        Cell("reverse", 1),
        Cell("reverse", 3),
        Cell("sort", 2),
        Cell("sort", 3),
        Cell("next", 1),
        Cell("next", 3),
    ),
    "memory": (
        Cell("recall", 2),
        Cell("recall", 3),
        Cell("latest", 2),
        Cell("latest", 3),
        Cell("needle", 1),
        Cell("needle", 2),
        Cell("cloze", 1),
        Cell("cloze", 2),
    ),
    "generalization": (
        Cell("compose", 1),
        Cell("compose", 2),
        Cell("relay", 1),
        Cell("relay", 2),
        Cell("hop", 1),
        Cell("hop", 2),
        Cell("chain", 11),
        Cell("max", 11),
        Cell("sort", 11),
        Cell("recall", 11),
        Cell("latest", 11),
        Cell("needle", 11),
        Cell("cloze", 11),
    ),
    "efficiency": (
        Cell("chain", 1),
        Cell("max", 1),
        Cell("reverse", 1),
        Cell("sort", 2),
        Cell("next", 1),
        Cell("recall", 1),
    ),
    "safety": tuple(Cell(kind, level) for level in (2, 3, 4, 5) for kind in ("harmful", "harmless")),
}

TRAINED = {"harmful": "request", "harmless": "request"}
"""What training draws in the place of a suite's task: it shows both kinds of request in one."""


def is_arc(suite: str) -> bool:
    """Whether a suite is of ARC's puzzles, and is asked with two attempts."""
    return suite == ARC or suite.startswith(f"{ARC}:")


def is_list(suite: str) -> bool:
    """Whether a suite has just the items that somebody wrote, and gives all of them where more are asked for."""
    return suite.startswith(FILE) or is_arc(suite)


def cells_of(suite: str) -> tuple[Cell, ...]:
    """The cells of a suite; of a file of items, or of ARC's puzzles, one for each level that it has.

    :param suite: a name, `file:PATH` or `arc:FOLDER`.
    :raises ConfigError: an unknown suite.
    :raises InputError: the file or the folder cannot be read.
    """
    if is_arc(suite):
        reported = (puzzle for puzzle in puzzles(suite.partition(":")[2]) if puzzle.split == "report")
        return tuple(Cell(suite, level) for level in sorted({puzzle.difficulty for puzzle in reported}))
    if suite.startswith(FILE):
        return tuple(Cell(suite, level) for level in find(suite).levels or LEVELS[:1])
    if suite not in CELLS:
        raise ConfigError(
            f"there is no suite {suite!r}", where="evaluation", fix=did_you_mean(suite, (*SUITES, ARC))
        )
    return CELLS[suite]


def suites_of(split: Split, among: Sequence[str] = SUITES) -> tuple[str, ...]:
    """Those of some suites that have items in a split: all but generalization for training."""
    return tuple(suite for suite in among if split != "train" or suite != HELD_OUT_SUITE)


def shares(weights: Sequence[float], total: int) -> list[int]:
    """Split `total` items in proportion, by largest remainder; earlier cells win ties."""
    exact = np.array(weights, dtype=np.float64) / sum(weights) * total
    counts = np.floor(exact).astype(int)
    for cell in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[cell] += 1
    return counts.tolist()


def shares_within(weights: Sequence[float], total: int, limits: Mapping[int, int]) -> list[int]:
    """The same where some cells can take no more than a limit: what they cannot take is shared among the others.

    Where all are limited, the last one gets what is left, and cannot have it.
    """
    free = [place for place in range(len(weights)) if place not in limits] or [len(weights) - 1]
    rest = total - sum(limit for place, limit in limits.items() if place not in free)
    counts = [limits.get(place, 0) for place in range(len(weights))]
    for place, count in zip(free, shares([weights[place] for place in free], rest), strict=True):
        counts[place] = count
    return counts
