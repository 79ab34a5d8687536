"""Does the model behave? Measured on what it says, never on a divergence: a closed KL can hide calls that do not parse.

As the field measures it (BFCL, the Berkeley function-calling leaderboard): calls are compared by their syntax trees, and
questions that need no call count as much as those that do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.sampling import sample_answers
from components.shared.tasks.generators.behaviours import FAMILIES
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import prompt_ids, stop_ids


class BehaviourScores(NamedTuple):
    """What a model did with questions about a behaviour and with others, all (n,) bool.

    about   the question is one that the behaviour is about
    right   the answer is the right one (only looked at where `about`)
    due     the right answer shows the behaviour
    shown   the model's answer shows it, rightly or not
    """

    about: np.ndarray
    right: np.ndarray
    due: np.ndarray
    shown: np.ndarray

    @property
    def rate(self) -> float:
        """Share of the questions about the behaviour that are answered as it should be."""
        return float(self.right[self.about].mean())

    @property
    def decision(self) -> float:
        """Share of all questions on which the behaviour is shown exactly where it should be."""
        return float((self.shown == self.due).mean())

    @property
    def false_trigger_rate(self) -> float:
        """Share of the questions that do not call for the behaviour on which it is shown all the same."""
        return float(self.shown[~self.due].mean())


def greedy_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Item], limit: int
) -> list[str]:
    """Greedy answers to items, as they stand (with their instruction, if they have one).

    :param limit: tokens of an answer at most.
    """
    answers = sample_answers(
        model, prompt_ids(items, tokenizer), stops=stop_ids(tokenizer, model), limit=limit, temperature=0.0
    )
    return [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers]


def behaviour_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    about: Sequence[Item],
    others: Sequence[Item],
    limit: int,
) -> BehaviourScores:
    """How the model answers questions about behaviour `name`, and others that it must leave alone.

    :param name: of the behaviour.
    :param about: items that it is about.
    :param others: items that it must leave alone.
    :param limit: tokens of an answer at most.
    """
    family, items = FAMILIES[name], [*about, *others]
    texts = greedy_answers(model, tokenizer, items, limit)
    return BehaviourScores(
        about=np.arange(len(items)) < len(about),
        right=np.array([family.exhibits(text, item.answer) for text, item in zip(texts, items, strict=True)]),
        due=np.array([family.shows(item.answer) for item in items]),
        shown=np.array([family.shows(text) for text in texts]),
    )
