"""What reports asks nothing that training shows, and the nearest training item answers it no better than a guess.

tests/performance/tasks/twins.py measures the same against thousands of items.
"""

from __future__ import annotations

import functools
import math
import statistics

import pytest

from components.shared.evaluation.cells import CELLS, Cell
from components.shared.evaluation.lookup import Lookup
from components.shared.evaluation.suites import distinct
from components.shared.tasks.item import Item
from components.shared.tasks.registry import find
from tests.functional_class import functional_class, training_items

TRAIN, REPORT = 300, 60
CELLS_ASKED = list(dict.fromkeys(cell for cells in CELLS.values() for cell in cells))
TOGETHER = {cell: (cell,) for cell in CELLS_ASKED if cell.task not in ("harmful", "harmless")} | {
    cell: (cell, cell._replace(task="harmless")) for cell in CELLS_ASKED if cell.task == "harmful"
}
"""Cells that are guessed together: of safety both kinds, since who always refuses has all of one and none of the other."""
LUCK = 1e-4
"""How often who guesses would be found better than guessing, in a cell."""


@functools.cache
def items(cell: Cell) -> tuple[list[Item], list[Item]]:
    """Training and report items."""
    report = [item for item, _ in distinct(cell.task, "report", cell.level, REPORT, [0])]
    return training_items(cell, TRAIN), report


def name(cell: Cell) -> str:
    return f"{cell.task} {cell.level}"


def test_items_that_ask_the_same_in_other_clothes_are_of_one_class() -> None:
    def same(task: str, *prompts: str) -> bool:
        return len({functional_class(Item(task, 1, "report", prompt, "")) for prompt in prompts}) == 1

    assert same("chain", "47+3=", "17+3=") and not same("chain", "47+3=", "48+3=")
    assert same("max", "3 9 4=", "9 4 3=") and not same("max", "3 9 4=", "3 9 5=")
    assert same("sort", "sort dax=", "sort xad=") and not same("reverse", "reverse dax=", "reverse xad=")


@pytest.mark.parametrize("cell", CELLS_ASKED, ids=name)
def test_no_report_item_has_a_twin_in_training(cell: Cell) -> None:
    train, report = items(cell)
    known = {functional_class(item) for item in train}
    assert len(report) == REPORT and not [item.prompt for item in report if functional_class(item) in known]


@pytest.mark.parametrize("cells", TOGETHER.values(), ids=lambda cells: name(cells[0]))
def test_the_nearest_training_item_answers_no_better_than_a_guess(cells: tuple[Cell, ...]) -> None:
    right, chances = 0, []
    for cell in cells:
        train, report = items(cell)
        nearest = Nearest(train)(report)
        right += sum(answer == item.answer for answer, item in zip(nearest, report, strict=True))
        chances.append(find(cell.task).chance(cell.level))
    asked, chance = REPORT * len(cells), statistics.mean(chances)
    assert as_many_by_guessing(right, asked, chance) > LUCK, (
        f"{right} of {asked} right, at a chance of {chance:.2f}"
    )


def as_many_by_guessing(right: int, asked: int, chance: float) -> float:
    """How often who guesses has as many right, or more."""
    return sum(math.comb(asked, n) * chance**n * (1 - chance) ** (asked - n) for n in range(right, asked + 1))


class Nearest(Lookup):
    """The baseline of every run, over these training items: it also sees what tasks that are never trained are made of."""

    def __init__(self, train: list[Item]) -> None:
        super().__init__(seed=0)
        self.train = train

    def _train(self, task: str, level: int, count: int) -> list[Item]:
        return self.train
