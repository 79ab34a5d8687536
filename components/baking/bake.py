"""One bake: the model learns to say without the instruction what it says with it, and nothing else changes.

    loss = KL(P_θ(·|y<t, u, x0) ‖ P_θu(·|y<t, x0))  +  anchor · KL(P_θ(·|z) ‖ P_θu(·|z))

The first term is prompt baking (arXiv 2409.13697). The second anchors the model to itself, as it was before the bake, on
unrelated inputs and on prompted ones: without it bakes in sequence undo one another and what the model knew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from components.shared.optim.schedule import set_rate, warmup_cosine
from components.shared.runtime.checkpoint.checkpoints import Checkpoints, Snapshot
from components.shared.runtime.errors import PhaseFailed

from .trajectories import Lesson, kl, log_probabilities


def bake(
    model: PreTrainedModel,
    learnt: list[nn.Parameter],
    lesson: Lesson,
    anchors: Lesson,
    *,
    steps: int,
    batch: int,
    lr: float,
    anchor: float,
    seed: int,
    checkpoints: Checkpoints,
    state: dict[str, Any],
    report: Callable[[int, float, float], None],
) -> None:
    """Train `learnt`, the LoRA parameters of `model`, in place.

    :param state: plain JSON of the phase, kept with each checkpoint; "within" (steps done) and "curve" are kept here.
    :param report: called after each step with (step, KL to the prompted teacher, KL to the model before).
    :raises PhaseFailed: the loss is not finite.
    """
    rule = torch.optim.AdamW(learnt, lr=lr, weight_decay=0.0)
    for group in rule.param_groups:
        group["initial_lr"] = lr
    loop = Snapshot({"model": model}, {"rule": rule}, state=state)
    if state["within"]:
        loop.restore(checkpoints)
    model.train()
    for step in range(state["within"], steps):
        set_rate(rule, warmup_cosine(step, steps, warmup=min(5, steps)))
        draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
        terms = []
        for part in (lesson, anchors) if anchor else (lesson,):
            picked = part.pick(torch.randint(len(part.rows.input_ids), (batch,), generator=draw))
            student = log_probabilities(model, picked.rows)
            terms.append(kl(picked.teacher.to(student), student))
        loss = terms[0] + (anchor * terms[1] if anchor else 0)
        if not torch.isfinite(loss):
            raise PhaseFailed(
                f"the loss is {float(loss.detach())} at step {step}", where="baking", fix="lower baking.lr"
            )
        rule.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        rule.step()
        values = [float(term.detach()) for term in terms]
        state["within"] = step + 1
        state["curve"].append([round(value, 6) for value in values])
        report(step + 1, values[0], values[-1])
        if checkpoints.due():
            loop.save(checkpoints, state["done"] + step + 1)
            checkpoints.stop_if_asked()
    model.eval()
