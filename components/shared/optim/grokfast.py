"""Grokfast: amplify the slow part of the gradients (Lee et al. 2024, arXiv 2405.20233, algorithms 1 and 2).

    EMA   μ ← α·μ + (1 − α)·g,  μ₀ = the first gradient;   g ← g + λ·μ
    MA    g ← g + λ·mean of the last w gradients, once w of them have been seen (g itself among them)

It runs inside the optimiser's step, as hooks on it: it sees the gradients that the optimiser would apply (ZeRO's
partitions too), and its memory is part of the optimiser's state, so checkpoints hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

SLOW, WINDOW, COUNT = "grokfast_slow", "grokfast_window", "grokfast_count"


@dataclass(frozen=True)
class Grokfast:
    """Which filter, and its constants. The paper's: α .98 and λ 2 (EMA); window 100 and λ 5 (MA, memory × 100)."""

    kind: Literal["ema", "ma"] = "ema"
    alpha: float = 0.98
    strength: float = 2.0
    window: int = 100


def ema(grad: Tensor, slow: Tensor | None, alpha: float) -> Tensor:
    """The slow part of the gradients after one more of them.

    :param slow: μ so far, of the gradient's shape; None: there is none yet.
    :returns: the new μ, a tensor of its own; the first one is the gradient.
    """
    return grad.clone() if slow is None else slow.mul(alpha).add_(grad, alpha=1 - alpha)


def attach(optimizer: Optimizer, grokfast: Grokfast) -> None:
    """Make every `optimizer.step()` amplify the gradients first. `.grad` is changed in place, as in the source.

    The state is written after the step: torch's optimisers set up theirs only where a parameter has none yet.
    """
    pending: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def before(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = optimizer.state.get(parameter, {})
                if grokfast.kind == "ema":
                    slow = ema(parameter.grad, state.get(SLOW), grokfast.alpha)
                    pending[parameter] = {SLOW: slow}
                    parameter.grad.add_(slow, alpha=grokfast.strength)
                else:
                    ring, count = remember(parameter.grad, state, grokfast.window)
                    pending[parameter] = {WINDOW: ring, COUNT: count}
                    if int(count) >= grokfast.window:
                        parameter.grad.add_(ring.mean(0), alpha=grokfast.strength)

    def after(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, filter_state in pending.items():
            optimizer.state[parameter].update(filter_state)
        pending.clear()

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)


def remember(grad: Tensor, state: dict[str, Tensor], window: int) -> tuple[Tensor, Tensor]:
    """Keep one more gradient in the ring of the last ones.

    :param grad: of any shape.
    :param state: of its parameter in the optimiser.
    :param window: gradients kept.
    :returns: the ring (window, *shape) with this one in it, and how many were ever seen, a 0-d int64.
    """
    ring = state[WINDOW] if WINDOW in state else grad.new_zeros((window, *grad.shape))
    count = state[COUNT] if COUNT in state else torch.zeros((), dtype=torch.int64)
    ring[int(count) % window] = grad
    return ring, count + 1
