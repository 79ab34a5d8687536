"""One course of training: a mixture of tasks, a rate that is warmed up, held and let down, an end when it converges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.evaluation.answers import batches
from components.shared.optim.optimizer import optimizer
from components.shared.optim.schedule import set_rate, warmup_stable_decay
from components.shared.runtime.checkpoint.checkpoints import Checkpoints, Snapshot
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import IGNORED, Batch, mixture

from .convergence import converged
from .settings import Course, Settings


def train(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    course: Course,
    settings: Settings,
    *,
    seed: int,
    checkpoints: Checkpoints,
    report: Callable[[int, float, float], None],
) -> dict[str, list[float]]:
    """Train `model` in place and return the loss curve: {"step": […], "loss": […]}.

    The schedule is warm-up, stable, decay (WSD, arXiv 2404.06395). When the loss converges in the stable part the decay
    begins at once, so that a course is never cut off at its full rate. An opening ends early once it is learnt. The items
    of a step are a function of (seed, name, step): a course that was killed goes on from its checkpoint and ends with
    the same weights.

    :param report: called after each step with (step, loss in nats a token, norm of the gradient).
    :raises PhaseFailed: the loss is not finite.
    """
    device = next(model.parameters()).device
    rule = optimizer(model, settings.optimizer, course.lr, settings.weight_decay)
    decay = round(settings.decay * course.steps)
    loop = Snapshot(
        modules={"model": model},
        optimizers={"rule": rule},
        state={"course": name, "opening": course.opening.steps, "end": course.steps},
    )
    loop.state |= {"recent": [], "step": [], "loss": []}
    saved = checkpoints.restore()
    if saved is not None and saved.state["course"] == name:  # and not that of the trunk, trained before it
        loop.load(saved)
    model.train()
    step, state = loop.step, loop.state
    while step < state["end"]:
        set_rate(rule, warmup_stable_decay(step, state["end"], settings.warmup, decay))
        tasks = course.opening.tasks if step < state["opening"] else course.tasks
        items = mixture(tasks, course.levels, "train", seed, step, settings.batch, scratch=course.scratch)
        rule.zero_grad()
        loss = learn(model, [batch.to(device) for _, batch in batches(items, tokenizer, settings.rows)])
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
        if not math.isfinite(norm):
            raise PhaseFailed(
                f"the loss is {loss} at step {step}, its gradient {norm}",
                where=f"cognate.{name}",
                fix="lower the learning rate (lr)",
            )
        rule.step()
        step += 1
        _remember(state, step, loss, settings.window, course.steps)
        if step < state["opening"] and _learnt(state["recent"], course.opening.loss):
            state["opening"] = step
        if step == state["opening"]:
            state["recent"] = []  # the next mixture has another loss: convergence is judged anew
        if state["opening"] < step < state["end"] - decay and converged(
            state["recent"], settings.window, settings.tolerance
        ):
            state["end"] = step + decay
        report(step, loss, norm)
        if checkpoints.due():
            loop.save(checkpoints, step)
            checkpoints.stop_if_asked()
    model.eval()
    return {"step": state["step"], "loss": state["loss"]}


def learn(model: nn.Module, rows: Sequence[Batch]) -> float:
    """Add to `.grad` the gradient of the mean loss over all tokens learnt in `rows`, and return that loss, nats a token.

    The rows of one batch may come in parts, each padded to its own width only.
    """
    tokens = [int((batch.labels[:, 1:] != IGNORED).sum()) for batch in rows]
    total = 0.0
    for batch, count in zip(rows, tokens, strict=True):
        with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=batch.input_ids.is_cuda):
            # Rows are padded on the right, so that causality alone hides the padding: no mask is needed.
            loss = model(input_ids=batch.input_ids, labels=batch.labels).loss * (count / sum(tokens))
        loss.backward()
        total += float(loss.detach())
    return total


def _learnt(recent: Sequence[float], loss: float) -> bool:
    """Whether ten steps in a row had a mean loss below `loss`."""
    return len(recent) >= 10 and sum(recent[-10:]) / 10 < loss


def _remember(state: dict[str, list[float]], step: int, loss: float, window: int, steps: int) -> None:
    """Keep the window that convergence is judged by, and a curve of at most about 100 means."""
    state["recent"] = [*state["recent"], loss][-window:]
    every = max(1, steps // 100)
    if step % every == 0:
        state["step"].append(step)
        state["loss"].append(round(sum(state["recent"][-every:]) / len(state["recent"][-every:]), 6))
