"""The judge: scores a model on a fixed set of items with one forward each.

The items are drawn and encoded once; a worker then measures hundreds of merged models on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.evaluation.answers import batches, evaluating, next_logits
from components.shared.evaluation.suites import suite_items
from components.shared.tasks.batches import IGNORED, without_scratch
from components.shared.tasks.item import Split

from .archive import Measurement
from .merging import Diverged

Fitness = Literal["likelihood", "accuracy"]


@dataclass(frozen=True)
class Answers:
    """Per item, in the order of the judge's items: right (n,) bool; nll (n,) float64, nats; tokens (n,)
    int64.
    """

    right: np.ndarray
    nll: np.ndarray
    tokens: np.ndarray

    @property
    def loss(self) -> float:
        """Mean answer NLL in nats a token."""
        return float(self.nll.sum() / self.tokens.sum())


class Judge:
    """Items of some suites of one split, `items` of each."""

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
        self.fitness = fitness
        self.items = []
        self.suite = []
        for suite in suites:
            drawn = suite_items(suite, split=split, items=items, seed=seed)
            self.items += [without_scratch(item) for item in drawn]
            self.suite += [suite] * len(drawn)
        self.batches = [(places, rows.to(device)) for places, rows in batches(self.items, tokenizer, batch)]

    def answers(self, model: nn.Module) -> Answers:
        """One teacher-forced forward of every item: exact match, and the likelihood of the right answer."""
        count = len(self.items)
        right, nll, tokens = np.zeros(count, bool), np.zeros(count), np.zeros(count, np.int64)
        with evaluating(model):
            for places, rows in self.batches:
                logits, targets = next_logits(model, rows)
                learnt = targets != IGNORED
                said, asked = logits[learnt].float(), targets[learnt]  # answers are a small part of the text
                each = F.cross_entropy(said, asked, reduction="none").double().cpu().numpy()
                wrong = (said.argmax(-1) != asked).cpu().numpy()
                row = learnt.nonzero()[:, 0].cpu().numpy()
                right[places] = np.bincount(row, wrong, len(places)) == 0
                nll[places] = np.bincount(row, each, len(places))
                tokens[places] = np.bincount(row, minlength=len(places))
        return Answers(right, nll, tokens)

    def measure(self, model: nn.Module) -> Measurement:
        """Fitness is the mean over suites, so that a suite of many tasks does not drown the others.

        "likelihood" is the geometric mean probability of an answer's token: with few items it ranks merges more surely
        than "accuracy", the share of right answers, and it moves where accuracy does not yet (README.md has figures).
        Raises Diverged where the loss is not finite.
        """
        answers = self.answers(model)
        if not math.isfinite(answers.loss):
            raise Diverged("the loss is not finite")
        return Measurement(self._fitness(answers), self._per_task(answers), answers.loss)

    def _fitness(self, answers: Answers) -> float:
        suites = np.array(self.suite)
        values = []
        for suite in dict.fromkeys(self.suite):
            mine = suites == suite
            if self.fitness == "accuracy":
                values.append(float(answers.right[mine].mean()))
            else:
                values.append(math.exp(-answers.nll[mine].sum() / answers.tokens[mine].sum()))
        return float(np.mean(values))

    def _per_task(self, answers: Answers) -> dict[str, float]:
        tasks = np.array([item.task for item in self.items])
        return {
            task: float(answers.right[tasks == task].mean())
            for task in dict.fromkeys(item.task for item in self.items)
        }
