"""One stage of training: where its batches come from, and the loop that learns from them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.answers import batches
from components.shared.optim.grokfast import Grokfast
from components.shared.optim.optimizer import optimizer
from components.shared.optim.schedule import set_rate, warmup_cosine
from components.shared.runtime.checkpoint.checkpoints import Checkpoints, Snapshot
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import IGNORED, Batch, mixture, without_scratch
from components.shared.tasks.registry import sample

from .dreaming import replay
from .edge_of_chaos import Edge
from .self_modelling import SelfModel, self_modelling_loss
from .settings import Settings, Stage

WARMUP = 5
"""Steps of warm-up at the start of each stage: its optimiser is new."""


class Learner(nn.ModuleList):
    """What a stage trains: the model, and in self-modelling its read-out."""

    def __init__(self, model: PreTrainedModel, read_out: nn.Module | None) -> None:
        super().__init__([model] if read_out is None else [model, read_out])
        self.get_output_embeddings = model.get_output_embeddings  # the optimiser asks which layer is the head


def train(
    model: PreTrainedModel,
    before: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    stage: Stage,
    settings: Settings,
    state: dict[str, Any],
    *,
    seed: int,
    checkpoints: Checkpoints,
    report: Callable[[float, float], None],
) -> PreTrainedModel:
    """Train `model` through one stage; the model that comes of it (in stabilisation its weight average).

    :param before: the model as the stage began, kept with each checkpoint so that the stage can be undone.
    :param state: the phase's plain state. Kept here: "within" (steps done), "curve", "success", "unsteered" (the success
        to be expected without choosing the difficulty, at the edge of chaos), "rates" of the edge. "dreams" are read.
    :param report: called after each step with (cross-entropy in nats a token, share of right answers).
    :raises PhaseFailed: the loss is not finite.
    """
    read_out = (
        SelfModel(model.config.hidden_size).to(model.device) if stage.kind == "self_modelling" else None
    )
    average = copy.deepcopy(model) if stage.kind == "stabilisation" else None
    learner = Learner(model, read_out)
    slow = None
    if settings.grokfast is not None:
        slow = Grokfast(alpha=settings.grokfast.alpha, strength=settings.grokfast.strength)
    rule = optimizer(learner, settings.optimizer, settings.lr * stage.lr, settings.weight_decay, slow)
    modules = {"model": model, "before": before, "read_out": read_out, "average": average}
    loop = Snapshot({n: m for n, m in modules.items() if m is not None}, {"rule": rule}, state=state)
    if state["within"]:
        loop.restore(checkpoints)
    edge = Edge(
        stage.tasks or settings.tasks,
        stage.levels,
        state["rates"],
        target=(settings.band.low + settings.band.high) / 2,
        memory=settings.band.memory,
    )
    floor = 0.0 if stage.kind == "stabilisation" else 0.1
    model.train()
    for step in range(state["within"], stage.steps):
        set_rate(rule, warmup_cosine(step, stage.steps, min(WARMUP, stage.steps), floor))
        if stage.kind == "edge_of_chaos":
            state["unsteered"].append(round(edge.unsteered(), 4))
        cells, parts = _items(stage, settings, edge, tokenizer, seed, step)
        if stage.kind == "dreaming":
            parts.append(_dreams(stage, settings, state["dreams"], tokenizer, seed, step))
        rule.zero_grad()
        right = np.zeros(len(cells), dtype=bool)
        entropy, tokens = 0.0, sum(_learnt(batch) for _, batch in parts)
        for places, batch in parts:
            share = _learnt(batch) / tokens
            loss, answers = _lesson(learner, batch.to(model.device), settings.self_weight)
            (share * loss).backward()
            entropy += share * answers.entropy
            right[places] = answers.right[: len(places)]
        norm = nn.utils.clip_grad_norm_(learner.parameters(), settings.clip)
        if not torch.isfinite(norm):
            raise PhaseFailed(
                f"the loss is {entropy} at step {step}, its gradient {float(norm)}",
                where=stage.name,
                fix="lower training.lr",
            )
        rule.step()
        if average is not None:
            _drift(average, model, settings.average)
        edge.observe(cells, right.tolist())
        state["within"] = step + 1
        state["curve"].append(round(entropy, 5))
        state["success"].append(round(float(right.mean()), 4))
        report(state["curve"][-1], state["success"][-1])
        if checkpoints.due():
            loop.save(checkpoints, state["done"] + step + 1)
            checkpoints.stop_if_asked()
    return (average if average is not None else model).eval()


Part = tuple[list[int], Batch]
"""Rows of like length, and the places of their items among the step's."""


def _items(
    stage: Stage, settings: Settings, edge: Edge, tokenizer: PreTrainedTokenizerBase, seed: int, step: int
) -> tuple[list[tuple[str, int]], list[Part]]:
    """The cells of a step's real items and their rows: a function of (seed, step) and of the edge's rates."""
    draw = random.Random(f"{stage.name}/{seed}/{step}")
    count = settings.batch - (_dreamt(settings) if stage.kind == "dreaming" else 0)
    if stage.kind == "edge_of_chaos":
        cells = edge.choose(count, draw)
        items = [sample(t, "train", l, step * settings.batch + row, seed) for row, (t, l) in enumerate(cells)]
        items = [item if draw.random() < stage.scratch else without_scratch(item) for item in items]
    else:
        tasks = stage.tasks or settings.tasks
        items = mixture(tasks, stage.levels, "train", seed, step, count, scratch=stage.scratch)
        cells = [(item.task, item.level) for item in items]
    return cells, list(batches(items, tokenizer, settings.rows))


def _dreamt(settings: Settings) -> int:
    """Dreams a step: at least one, and at least one item stays real."""
    return max(1, min(settings.batch - 1, round(settings.dream_share * settings.batch)))


def _dreams(
    stage: Stage,
    settings: Settings,
    dreams: list[list[list[int]]],
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    step: int,
) -> Part:
    draw = random.Random(f"{stage.name}/{seed}/{step}/dreams")
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return [], replay(draw.choices(dreams, k=_dreamt(settings)), padding)


class Answers(NamedTuple):
    """How the learnt tokens of some rows went: mean cross-entropy in nats, and (B,) bool whether all were most likely."""

    entropy: float
    right: np.ndarray


def _lesson(learner: Learner, batch: Batch, self_weight: float) -> tuple[Tensor, Answers]:
    """The network's own loss (a Cognate's with its halting), in self-modelling with its second term."""
    model, read_out = learner[0], learner[1] if len(learner) == 2 else None
    with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=batch.input_ids.is_cuda):
        # Rows are padded on the right, so that causality alone hides the padding: no mask is needed.
        out = model(input_ids=batch.input_ids, labels=batch.labels, output_hidden_states=read_out is not None)
        loss = out.loss
        if read_out is not None:
            real = batch.attention_mask.bool()
            loss = loss + self_weight * self_modelling_loss(read_out, out.hidden_states, real)
    logits, targets = out.logits.detach()[:, :-1], batch.labels[:, 1:]
    learnt = targets != IGNORED
    entropy = F.cross_entropy(logits[learnt].float(), targets[learnt])
    right = ((logits.argmax(-1) == targets) | ~learnt).all(-1)
    return loss, Answers(float(entropy), right.cpu().numpy())


def _learnt(batch: Batch) -> int:
    """How many tokens of the rows are learnt."""
    return int((batch.labels[:, 1:] != IGNORED).sum())


@torch.no_grad()
def _drift(average: nn.Module, model: nn.Module, keep: float) -> None:
    """average ← keep·average + (1 − keep)·model, tensor by tensor (Polyak averaging with a horizon)."""
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - keep)
