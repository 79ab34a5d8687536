"""The sanity gate before training: the loss of a known task must fall, or something is broken and hours would be wasted.

A copy of the model is trained for some steps on one batch of the mixture `sanity`, whose one word copied is what any
network that learns at all learns first, with the optimiser that training will use. The batch is the same in every step, and
its own loss is what must fall: a few steps at a low rate move items that were not trained on less than they differ. What is
broken shows here: a rate of zero or far too high, frozen weights, gradients that do not arrive.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedTokenizerBase

from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.mixtures import mixture_named
from components.shared.training.head import next_token_loss

from .answers import loss

KNOWN = 0.05
"""Nats a token at which a model knows the task: its loss need not fall any more."""


@dataclass(frozen=True)
class Sanity:
    """What came of it.

    :param before: loss on the batch, nats a token.
    :param after: the same after the steps.
    """

    steps: int
    before: float
    after: float

    @property
    def passed(self) -> bool:
        """Whether the loss fell, or had nowhere to fall to; NaN has not."""
        return self.after < self.before or self.after < KNOWN

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        figures = {"before": round(self.before, 5), "after": round(self.after, 5)}
        return {"task": "copy", "steps": self.steps, **figures, "passed": self.passed}


def loss_falls(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    optimizer_of: Callable[[nn.Module], Optimizer],
    *,
    prepare: Callable[[Any], object] = lambda learner: None,
    steps: int,
    batch: int,
    seed: int,
    where: str,
) -> Sanity:
    """Train a copy of the model on the known task for a few steps, and let go of it.

    :param optimizer_of: what is trained → the optimiser of the training to come.
    :param prepare: makes of the copy what will be trained, such as adapters on frozen weights.
    :param where: the phase and course, for errors.
    :raises PhaseFailed: the loss did not fall.
    """
    tasks, levels = mixture_named("sanity"), [1]
    items = mixture(tasks, levels, "train", seed, 0, batch)
    with torch.random.fork_rng():
        learner = copy.deepcopy(model).train()
        before = loss(learner, tokenizer, items)
        prepare(learner.requires_grad_(True))
        optimizer = optimizer_of(learner)
        rows = encode(items, tokenizer).to(next(learner.parameters()).device)
        for _ in range(steps):
            optimizer.zero_grad()
            next_token_loss(learner, rows).backward()
            nn.utils.clip_grad_norm_([p for p in learner.parameters() if p.grad is not None], 1.0)
            optimizer.step()
        found = Sanity(steps, before, loss(learner, tokenizer, items))
    if not found.passed:
        raise PhaseFailed(
            "the sanity gate: training does not lower the loss of a task that everything learns",
            where=where,
            why=f"copying a word: {found.before:.4f} nats a token before, {found.after:.4f} after {steps} steps",
            fix="look at the learning rate (lr), the tokenizer and the input model; sanity_steps: 0 leaves the gate out",
        )
    return found
