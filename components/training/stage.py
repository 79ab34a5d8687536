"""One stage of training: where its batches come from, and the loop that learns from them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.optim.grokfast import Grokfast
from components.shared.optim.optimizer import optimizer
from components.shared.optim.schedule import set_rate, warmup_cosine
from components.shared.runtime.checkpoint import Checkpoints, Snapshot
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import IGNORED, Batch, encode, mixture, without_scratch
from components.shared.tasks.item import Item
from components.shared.tasks.registry import sample

from .dreaming import with_dreams
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
        batch, items, cells = _batch(stage, settings, edge, state["dreams"], tokenizer, seed, step)
        batch = batch.to(model.device)
        real = batch.attention_mask.bool()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
            out = model(
                input_ids=batch.input_ids, labels=batch.labels, output_hidden_states=read_out is not None
            )
            loss = out.loss
            entropy, right = _answers(out.logits.detach(), batch.labels)
            if read_out is not None:
                loss = loss + settings.self_weight * self_modelling_loss(read_out, out.hidden_states, real)
        if not torch.isfinite(loss):
            raise PhaseFailed(
                f"the loss is {float(loss.detach())} at step {step}",
                where=stage.name,
                fix="lower training.lr",
            )
        rule.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), settings.clip)
        rule.step()
        if average is not None:
            _drift(average, model, settings.average)
        fresh = right[: len(items)].tolist()
        edge.observe(cells, fresh)
        success = sum(fresh) / len(fresh)
        state["within"] = step + 1
        state["curve"].append(round(float(entropy), 5))
        state["success"].append(round(success, 4))
        report(state["curve"][-1], success)
        if checkpoints.due():
            loop.save(checkpoints, state["done"] + step + 1)
            checkpoints.stop_if_asked()
    return (average if average is not None else model).eval()


def _batch(
    stage: Stage,
    settings: Settings,
    edge: Edge,
    dreams: list[list[list[int]]],
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    step: int,
) -> tuple[Batch, list[Item], list[tuple[str, int]]]:
    """The rows of a step, the items of the real ones, and the cells that they came from: a function of (seed, step)."""
    draw = random.Random(f"{stage.name}/{seed}/{step}")
    dreamt = round(settings.dream_share * settings.batch) if stage.kind == "dreaming" else 0
    count = max(1, settings.batch - dreamt)
    if stage.kind == "edge_of_chaos":
        cells = edge.choose(count, draw)
        items = [sample(t, "train", l, step * settings.batch + row, seed) for row, (t, l) in enumerate(cells)]
        items = [item if draw.random() < stage.scratch else without_scratch(item) for item in items]
    else:
        tasks = stage.tasks or settings.tasks
        items = mixture(tasks, stage.levels, "train", seed, step, count, scratch=stage.scratch)
        cells = [(item.task, item.level) for item in items]
    batch = encode(items, tokenizer)
    if dreamt:
        padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        batch = with_dreams(batch, draw.choices(dreams, k=dreamt), int(padding))
    return batch, items, cells


def _answers(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of what is learnt, and (B,) bool: every learnt token of the row is the most likely one."""
    logits, targets = logits[:, :-1], labels[:, 1:]
    learnt = targets != IGNORED
    entropy = F.cross_entropy(logits[learnt].float(), targets[learnt])
    right = ((logits.argmax(-1) == targets) | ~learnt).all(-1)
    return entropy, right


@torch.no_grad()
def _drift(average: nn.Module, model: nn.Module, keep: float) -> None:
    """average ← keep·average + (1 − keep)·model, tensor by tensor (Polyak averaging with a horizon)."""
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - keep)
