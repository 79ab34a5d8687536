"""The judge: scores a model on a fixed set of items with one forward each.

The items are drawn and encoded once; a worker then measures hundreds of merged models on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.evaluation.answers import batches, evaluating, next_logits
from components.shared.evaluation.suites import suite_items
from components.shared.tasks.batches import IGNORED, Batch, without_scratch
from components.shared.tasks.item import Item, Split

from ..search.archive import Measurement
from .merging import Diverged
from .race import is_beaten, stages

Fitness = Literal["likelihood", "accuracy"]


@dataclass(frozen=True)
class Answers:
    """Per item that was asked: places (n,) int64, of the judge's items, ascending; right (n,) bool; nll (n,) float64,
    nats; tokens (n,) int64.
    """

    places: np.ndarray
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
    def from_json(data: Mapping[str, list[float]]) -> Answers:
        kinds = {"places": np.int64, "right": np.bool_, "nll": np.float64, "tokens": np.int64}
        return Answers(**{name: np.array(data[name], kind) for name, kind in kinds.items()})


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
        drawn = [suite_items(suite, split=split, items=items, seed=seed) for suite in suites]
        self.items: list[Item] = []
        self.suite: list[str] = []
        self.stages: list[list[tuple[np.ndarray, Batch]]] = []
        for first, end in stages(items):
            stage = [
                (without_scratch(item), suite)
                for suite, mine in zip(suites, drawn, strict=True)
                for item in mine[first:end]
            ]
            asked, start = [item for item, _ in stage], len(self.items)
            self.stages.append(
                [
                    (np.add(places, start), rows.to(device))
                    for places, rows in batches(asked, tokenizer, batch)
                ]
            )
            self.items += asked
            self.suite += [suite for _, suite in stage]

    def answers(self, model: nn.Module, rival: Answers | None = None) -> Answers:
        """One teacher-forced forward of every item: exact match, and the likelihood of the right answer.

        Stage after stage, each of every suite's items; with the answers of a rival to all items only as long as the
        model is not beaten (race.py).
        """
        count, seen = len(self.items), 0
        right, nll, tokens = np.zeros(count, bool), np.zeros(count), np.zeros(count, np.int64)
        for stage in self.stages:
            self._ask(model, stage, right, nll, tokens)
            seen += sum(len(places) for places, _ in stage)
            found = Answers(np.arange(seen), right[:seen], nll[:seen], tokens[:seen])
            if rival is not None and is_beaten(self._points(found), self._points(rival)[:seen]):
                break
        return found

    def _points(self, answers: Answers) -> np.ndarray:
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
            for places, rows in stage:
                logits, targets = next_logits(model, rows)
                learnt = targets != IGNORED
                said, asked = logits[learnt].float(), targets[learnt]  # answers are a small part of the text
                each = F.cross_entropy(said, asked, reduction="none").double().cpu().numpy()
                wrong = (said.argmax(-1) != asked).cpu().numpy()
                row = learnt.nonzero()[:, 0].cpu().numpy()
                right[places] = np.bincount(row, wrong, len(places)) == 0
                nll[places] = np.bincount(row, each, len(places))
                tokens[places] = np.bincount(row, minlength=len(places))

    def measure(self, model: nn.Module) -> Measurement:
        """Of all items; see `measurement`."""
        return self.measurement(self.answers(model))

    def measurement(self, answers: Answers) -> Measurement:
        """Fitness is the mean over suites, so that a suite of many tasks does not drown the others.

        "likelihood" is the geometric mean probability of an answer's token: with few items it ranks merges more surely
        than "accuracy", the share of right answers, and it moves where accuracy does not yet (README.md has figures).
        Raises Diverged where the loss is not finite.
        """
        if not math.isfinite(answers.loss):
            raise Diverged("the loss is not finite")
        seen = len(answers.places) / len(self.items)
        return Measurement(self._fitness(answers), self._per_task(answers), answers.loss, seen=seen)

    def _fitness(self, answers: Answers) -> float:
        suites = np.array(self.suite)[answers.places]
        values = []
        for suite in dict.fromkeys(self.suite):
            mine = suites == suite
            if self.fitness == "accuracy":
                values.append(float(answers.right[mine].mean()))
            else:
                values.append(math.exp(-answers.nll[mine].sum() / answers.tokens[mine].sum()))
        return float(np.mean(values))

    def _per_task(self, answers: Answers) -> dict[str, float]:
        tasks = np.array([self.items[place].task for place in answers.places])
        return {task: float(answers.right[tasks == task].mean()) for task in dict.fromkeys(tasks.tolist())}
