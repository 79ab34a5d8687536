"""ARC by its official rule: two attempts at every test grid, right when one of them is the whole grid, cell by cell.

(Chollet 2019, arXiv 1911.01547; ARC Prize.) The attempts are greedy answers to two views of the puzzle: as it is, and with
all grids reflected at their diagonal. They differ where the model is not sure, and need no seed. An answer to the second
view is right exactly where its reflection is the grid that is asked for, so that nothing has to be reflected back.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.tasks.generators.arc import grid_text, turned
from components.shared.tasks.item import Item

from .answers import AnswerFunction, correct

GRID = re.compile(r"[0-9][0-9/]*")
"""A grid as a prompt writes it: rows of digits, parted by `/`."""


def two_attempts(
    agent: nn.Module | AnswerFunction,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Item],
    *,
    batch: int = 64,
    seen: Callable[[int], None] | None = None,
) -> np.ndarray:
    """(2, n) bool: whether the first and the second attempt at each item is right.

    :param batch: items in one forward pass.
    :param seen: is told how many more items are answered, by the first attempt.
    """
    first = correct(agent, tokenizer, items, batch=batch, seen=seen)
    second = correct(agent, tokenizer, [reflected(item) for item in items], batch=batch)
    return np.stack([first, second])


def reflected(item: Item) -> Item:
    """The same question with all its grids reflected at their diagonal, and so its answer."""
    return dataclasses.replace(item, prompt=_reflected(item.prompt), answer=_reflected(item.answer))


def _reflected(text: str) -> str:
    def turn(found: re.Match[str]) -> str:
        grid = tuple(tuple(map(int, row)) for row in found[0].split("/"))
        return grid_text(turned(grid, 0, True))

    return GRID.sub(turn, text)
