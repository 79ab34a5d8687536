"""Multiple choice by log-likelihood: the choice that a model finds likeliest, as lm-evaluation-harness scores it.

    acc         the choice whose tokens have the highest summed log-probability behind the prompt
    acc_norm    the highest of that sum divided by the choice's length in characters

What ends an answer is not counted. A choice is tokenised apart from the prompt, as answers are. `answers.choice_scores`
asks a model. Source: lm-evaluation-harness 0.4, `ConfigurableTask.process_results` (output type multiple_choice).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from components.shared.tasks.batches import IGNORED, Batch
from components.shared.tasks.graders import reference
from components.shared.tasks.item import Item


class ChoiceScores(NamedTuple):
    """How a model scores on n items with choices.

    acc        (n,) bool
    acc_norm   (n,) bool
    logs       of each item the summed log-probabilities of its choices in nats, (choices,) float64
    """

    acc: np.ndarray
    acc_norm: np.ndarray
    logs: list[np.ndarray]

    def as_items_say(self, items: Sequence[Item]) -> np.ndarray:
        """(n,) bool: acc, or acc_norm for the items whose reference says `"normalise": true`."""
        normalised = np.array([bool(reference(item).get("normalise")) for item in items], dtype=bool)
        return np.where(normalised, self.acc_norm, self.acc)


def rows_of(items: Sequence[Item]) -> list[Item]:
    """An item for every choice of every item, which it has as its answer."""
    return [dataclasses.replace(item, answer=text, scratch="") for item in items for text in item.choices]


def without_end(batch: Batch) -> Batch:
    """The same rows, in which the token that ends an answer is not counted: it is each row's last label."""
    learnt = batch.labels != IGNORED
    last = learnt.shape[1] - 1 - learnt.flip(-1).long().argmax(-1)
    return batch._replace(labels=batch.labels.scatter(1, last[:, None], IGNORED))


def chosen(items: Sequence[Item], logs: np.ndarray) -> ChoiceScores:
    """Scores by the log-probabilities of `rows_of(items)`.

    :param logs: (rows,) float64, nats.
    """
    of_items = np.split(logs, np.cumsum([len(item.choices) for item in items])[:-1])
    right = np.array([item.choices.index(item.answer) for item in items], dtype=np.int64)
    lengths = [np.array([max(1, len(text)) for text in item.choices], dtype=np.float64) for item in items]
    summed = np.array([log.argmax() for log in of_items])
    normalised = np.array([(log / length).argmax() for log, length in zip(of_items, lengths, strict=True)])
    return ChoiceScores(summed == right, normalised == right, of_items)
