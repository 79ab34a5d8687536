"""The baseline that understands nothing: the answer of the nearest train item.

Where it does better than guessing, the items that are to report can be answered by having seen those of training, and a
model's score says less about skill. Nearest is by the cosine of the counts of neighbouring bytes (character n-grams, as in
Damashek 1995): one that differs in a digit is near, whatever it means.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from components.shared.runtime.errors import InputError
from components.shared.tasks.item import Item
from components.shared.tasks.registry import sample

from .cells import TRAINED

RATIO = 8
"""Train items of the same task and level that are looked through, for each item that is asked."""

FEATURES = 1 << 11
"""Pairs of bytes share so many counts."""


class Lookup:
    """An agent (`answers.AnswerFunction`) that gives the answer of the nearest item of the split train.

    An item whose task has nothing to train on at its level (a benchmark that is for reports only) gets no answer.

    :param seed: of the train items.
    :param ratio: how many of them, for each item that is asked.
    """

    def __init__(self, *, seed: int, ratio: int = RATIO) -> None:
        self.seed, self.ratio = seed, ratio

    def __call__(self, items: Sequence[Item]) -> list[str]:
        """An answer an item, in the order of the items."""
        answers = [""] * len(items)
        for (task, level), places in _by_cell(items).items():
            known = self._train(task, level, self.ratio * len(places))
            if known:
                features = _features([items[place] for place in places])
                nearest = (features @ _features(known).T).argmax(axis=1)
                for place, index in zip(places, nearest, strict=True):
                    answers[place] = known[index].answer
        return answers

    def _train(self, task: str, level: int, count: int) -> list[Item]:
        try:
            trained = TRAINED.get(task, task)
            return [sample(trained, "train", level, index, self.seed) for index in range(count)]
        except InputError:  # the task has nothing in this split, and says so
            return []


def _by_cell(items: Sequence[Item]) -> dict[tuple[str, int], list[int]]:
    cells: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        cells[item.task, item.level].append(place)
    return cells


def _features(items: Sequence[Item]) -> np.ndarray:
    """(n, FEATURES) float32, rows of length 1: how often each pair of neighbouring bytes stands in the question."""
    counts = np.zeros((len(items), FEATURES), dtype=np.float32)
    for row, item in zip(counts, items, strict=True):
        text = np.frombuffer(f"\n{item.system}\n{item.prompt}\n".encode(), dtype=np.uint8).astype(np.int64)
        row += np.bincount((text[:-1] * 263 + text[1:]) % FEATURES, minlength=FEATURES)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)
