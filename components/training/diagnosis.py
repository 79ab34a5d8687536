"""Which regime is training in? Told from train and held-out loss, without flickering.

memorising    train loss falls, held-out loss does not
grokking      held-out loss falls fast while train loss is already low and flat
generalising  both fall
converged     neither moves
diverging     train loss rises
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Regime = Literal["memorising", "grokking", "generalising", "converged", "diverging"]


def regime(train: Sequence[float], held_out: Sequence[float], *, move: float = 0.02) -> Regime:
    """The regime between the first and the last of the given measurements.

    :param train: losses on training items, nats a token, oldest first; at least two.
    :param held_out: losses on held-out items at the same moments.
    :param move: relative change that counts as movement.
    """
    if len(train) < 2 or len(train) != len(held_out):
        raise ValueError(f"two or more measurements of each are needed, got {len(train)} and {len(held_out)}")

    def change(values: Sequence[float]) -> float:
        return (values[-1] - values[0]) / max(abs(values[0]), 1e-9)

    fit, held = change(train), change(held_out)
    if fit > move:
        return "diverging"
    if held < -move:
        return "generalising" if fit < -move else "grokking"
    return "memorising" if fit < -move else "converged"


def settled(regimes: Sequence[Regime], patience: int = 2) -> Regime | None:
    """The latest regime that held for `patience` measurements in a row; None before any did (hysteresis)."""
    for end in range(len(regimes), patience - 1, -1):
        window = regimes[end - patience : end]
        if len(set(window)) == 1:
            return window[0]
    return None
