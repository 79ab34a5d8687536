"""Scores a model on a fixed set of items with one forward each.

The items are drawn and encoded once; a worker then measures hundreds of merged models on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.evaluation.answers import batches, correct, evaluating, token_outcomes
from components.shared.evaluation.suites import suite_items
from components.shared.merging.inputs import Diverged
from components.shared.tasks.batches import Batch, without_scratch
from components.shared.tasks.graders import how_scored
from components.shared.tasks.item import Item, Split

from ..search.archive import Measurement
from .race import is_beaten, stages

Fitness = Literal["likelihood", "accuracy"]


@dataclass(frozen=True)
class AnswerScores:
    """What a model answered to each item that it was asked.

    :param positions: (n,) int64, among the scorer's items, ascending.
    :param right: (n,) bool, exact match.
    :param nll: (n,) float64, of the right answer, nats.
    :param tokens: (n,) int64, of the right answer.
    """

    positions: np.ndarray
    right: np.ndarray
    nll: np.ndarray
    tokens: np.ndarray

    @property
    def loss(self) -> float:
        """Mean answer NLL in nats a token."""
        return float(self.nll.sum() / self.tokens.sum())

    def to_json(self) -> dict[str, list[float]]:
        """As plain JSON; every number survives exactly."""
        return {item.name: getattr(self, item.name).tolist() for item in fields(self)}

    @staticmethod
    def from_json(data: Mapping[str, list[float]]) -> AnswerScores:
        """What `to_json` returned."""
        kinds = {"positions": np.int64, "right": np.bool_, "nll": np.float64, "tokens": np.int64}
        return AnswerScores(**{name: np.array(data[name], kind) for name, kind in kinds.items()})


class ItemScorer:
    """Items of some suites of one split.

    :param suites: names of suites.
    :param split: of whose items.
    :param items: of each suite; a file that has fewer gives all.
    :param seed: of the drawing.
    :param batch: items in one forward.
    :param fitness: what a measurement's fitness is made of.
    :param device: where the models are.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        suites: Sequence[str],
        *,
        split: Split,
        items: int,
        seed: int,
        batch: int,
        fitness: Fitness = "likelihood",
        device: torch.device | str = "cpu",
    ) -> None:
        self.fitness, self.tokenizer = fitness, tokenizer
        drawn = [suite_items(suite, split=split, items=items, seed=seed) for suite in suites]
        self.items: list[Item] = []
        self.suite: list[str] = []
        self.stages: list[list[tuple[np.ndarray, Batch]]] = []
        for first, end in stages(max(map(len, drawn))):  # a file may have fewer than are asked for
            stage = [
                (without_scratch(item), suite)
                for suite, own in zip(suites, drawn, strict=True)
                for item in own[first:end]
            ]
            asked, start = [item for item, _ in stage], len(self.items)
            self.stages.append(
                [
                    (np.add(positions, start), rows.to(device))
                    for positions, rows in batches(asked, tokenizer, batch)
                ]
            )
            self.items += asked
            self.suite += [suite for _, suite in stage]

    def answers(self, model: nn.Module, rival: AnswerScores | None = None) -> AnswerScores:
        """One teacher-forced forward of every item: exact match, and the likelihood of the right answer.

        What another grader than `exact` judges is asked once more, as it says.

        Stage after stage, each of every suite's items.

        :param model: it is not changed.
        :param rival: another's answers to all items; then only as long as the model is not beaten (race.py).
        """
        count, seen = len(self.items), 0
        right, nll, tokens = np.zeros(count, bool), np.zeros(count), np.zeros(count, np.int64)
        for stage in self.stages:
            self._ask(model, stage, right, nll, tokens)
            seen += sum(len(positions) for positions, _ in stage)
            answers = AnswerScores(np.arange(seen), right[:seen], nll[:seen], tokens[:seen])
            if rival is not None and is_beaten(self._points(answers), self._points(rival)[:seen]):
                break
        return answers

    def _points(self, answers: AnswerScores) -> np.ndarray:
        """Per item, what the fitness is made of."""
        return answers.right if self.fitness == "accuracy" else -answers.nll / answers.tokens

    def _ask(
        self,
        model: nn.Module,
        stage: list[tuple[np.ndarray, Batch]],
        right: np.ndarray,
        nll: np.ndarray,
        tokens: np.ndarray,
    ) -> None:
        with evaluating(model):
            for positions, rows in stage:
                nll[positions], tokens[positions], right[positions] = token_outcomes(model, rows)
        asked = np.concatenate([positions for positions, _ in stage])
        graded = [int(place) for place in asked if how_scored(self.items[place]) != "forced"]
        if graded:
            right[graded] = correct(model, self.tokenizer, [self.items[place] for place in graded])

    def measure(self, model: nn.Module) -> Measurement:
        """Of all items; see `measurement`."""
        return self.measurement(self.answers(model))

    def measurement(self, answers: AnswerScores) -> Measurement:
        """Fitness is the mean over suites, so that a suite of many tasks does not drown the others.

        "likelihood" is the geometric mean probability of an answer's token: with few items it ranks merges more surely
        than "accuracy", the share of right answers, and it moves where accuracy does not yet (README.md has figures).

        :param answers: to all items, or the first of them.
        :raises Diverged: the loss is not finite.
        """
        if not math.isfinite(answers.loss):
            raise Diverged("the loss is not finite")
        seen = len(answers.positions) / len(self.items)
        return Measurement(self._fitness(answers), self._per_task(answers), answers.loss, seen=seen)

    def _fitness(self, answers: AnswerScores) -> float:
        suites = np.array(self.suite)[answers.positions]
        values = []
        for suite in dict.fromkeys(self.suite):
            members = suites == suite
            if self.fitness == "accuracy":
                values.append(float(answers.right[members].mean()))
            else:
                values.append(math.exp(-answers.nll[members].sum() / answers.tokens[members].sum()))
        return float(np.mean(values))

    def _per_task(self, answers: AnswerScores) -> dict[str, float]:
        tasks = np.array([self.items[position].task for position in answers.positions])
        return {task: float(answers.right[tasks == task].mean()) for task in dict.fromkeys(tasks.tolist())}
