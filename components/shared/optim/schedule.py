"""Schedules of the learning rate as pure functions of the step: a factor between 0 and 1 on every group's own rate."""

from __future__ import annotations

import math

from torch.optim import Optimizer


def warmup_cosine(step: int, total: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Linear warm-up to 1 over `warmup` steps, then half a cosine down to `floor` at `total` (arXiv 1608.03983).

    :param step: counted from 0.
    :returns: a factor in 0..1.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(step: int, total: int, warmup: int = 0, decay: int = 0, floor: float = 0.0) -> float:
    """Linear warm-up, then 1, then linearly down to `floor` over the last `decay` steps (WSD, arXiv 2404.06395).

    :param step: counted from 0.
    :returns: a factor in 0..1.
    """
    if step < warmup:
        return (step + 1) / warmup
    left = total - step
    if left >= decay:
        return 1.0
    return floor + (1 - floor) * max(0, left) / decay


def set_rate(optimizer: Optimizer, factor: float) -> None:
    """Put every group's rate at `factor` times the one it began with, which is noted as its `initial_lr`.

    :param factor: in 0..1, as the schedules give it.
    """
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
