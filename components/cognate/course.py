"""One course of training: a rate that is warmed up, held and let down, and an end when the loss has converged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from components.shared.optim.schedule import warmup_stable_decay
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.tasks.batches import Batch
from components.shared.training.ahead import Ahead
from components.shared.training.head import next_token_loss
from components.shared.training.loop import ALONE, Report, TrainingLoop, token_shares
from components.shared.training.settings import EngineSettings

from .convergence import converged

OPENING_STEPS = 10
"""An opening is learnt when so many steps in a row had a mean loss below its own."""
POINTS = 100
"""Points of the loss curve, about."""


class CourseResult(NamedTuple):
    """Steps taken, and the loss curve {"step": […], "loss": […]}, means in nats a token."""

    steps: int
    curve: dict[str, list[float]]


def train(
    model: nn.Module,
    optimizer: Optimizer,
    draw: Callable[[int, bool], list[Batch]],
    *,
    name: str,
    steps: int,
    warmup: int,
    decay: float,
    opening_steps: int,
    opening_loss: float,
    window: int,
    tolerance: float,
    clip: float,
    engine: EngineSettings = ALONE,
    checkpoints: Checkpoints,
    report: Report,
) -> CourseResult:
    """Train `model` in place.

    The schedule is warm-up, stable, decay (WSD, arXiv 2404.06395). When the loss converges in the stable part the decay
    begins at once, so that a course is never cut off at its full rate. An opening ends early once it is learnt. A course
    that was killed goes on from its checkpoint and ends with the same weights.

    :param draw: (step, whether it belongs to the opening) → the batches of the step, a function of these two alone.
    :param name: of the course; a checkpoint of another course is not restored.
    :param steps: at most.
    :param warmup: steps of linear warm-up.
    :param decay: share of `steps` that the rate falls over at the end.
    :param opening_steps: at most; 0: there is no opening.
    :param opening_loss: nats a token below which the opening is learnt.
    :param window: steps over which convergence is judged.
    :param tolerance: relative improvement in a window below which training has converged.
    :param clip: largest norm of the gradient.
    :param engine: devices, shards, precision.
    :param report: called after each step with the loss in nats a token and the norm of the gradient.
    :raises PhaseFailed: the loss is not finite.
    """
    decay_steps = round(decay * steps)
    snapshot = Snapshot(
        modules={"model": model},
        optimizers={"optimizer": optimizer},
        state={"course": name, "opening": opening_steps, "end": steps, "recent": [], "step": [], "loss": []},
    )
    loop = TrainingLoop(
        model,
        snapshot.optimizers,
        clip=clip,
        where=f"cognate.{name}",
        fix="lower the learning rate (lr)",
        engine=engine,
        bfloat16=True,
        snapshot=snapshot,
        checkpoints=checkpoints,
        report=report,
    )
    saved = checkpoints.restore()
    if saved is not None and saved.state["course"] == name:  # and not that of the trunk, trained before it
        snapshot.load(saved)
    loop.step = snapshot.step
    state = snapshot.state
    ahead = Ahead(draw, engine.workers)
    model.train()
    while loop.step < state["end"]:
        batches = ahead(loop.step, loop.step < state["opening"])
        rate = warmup_stable_decay(loop.step, state["end"], warmup, decay_steps)
        update = loop.update(
            batches, lambda batch: token_loss(model, batch), rate=rate, weights=token_shares(batches)
        )
        step = loop.step
        _note(state, step, update.loss, window, steps)
        if step < state["opening"] and _is_learnt(state["recent"], opening_loss):
            state["opening"] = step
        if step == state["opening"]:
            state["recent"] = []  # the next mixture has another loss: convergence is judged anew
        in_stable_part = state["opening"] < step < state["end"] - decay_steps
        if in_stable_part and converged(state["recent"], window, tolerance):
            state["end"] = step + decay_steps
        loop.end_step({"loss": update.loss, "gradient_norm": update.gradient_norm})
    ahead.close()
    loop.finish()
    model.eval()
    return CourseResult(loop.step, {"step": state["step"], "loss": state["loss"]})


def token_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The model's own mean loss over the tokens learnt in a batch, nats a token, with its graph; nothing else measured."""
    return next_token_loss(model, batch.to(next(model.parameters()).device)), {}


def _is_learnt(recent: Sequence[float], loss: float) -> bool:
    return len(recent) >= OPENING_STEPS and sum(recent[-OPENING_STEPS:]) / OPENING_STEPS < loss


def _note(state: dict[str, Any], step: int, loss: float, window: int, steps: int) -> None:
    """Keep the window that convergence is judged by, and a curve of means."""
    state["recent"] = [*state["recent"], loss][-window:]
    every = max(1, steps // POINTS)
    if step % every == 0:
        state["step"].append(step)
        state["loss"].append(round(sum(state["recent"][-every:]) / len(state["recent"][-every:]), 6))
