"""Which regime is training in? Told from train loss, held-out loss and the geometry of what is represented.

memorising    train loss falls, held-out loss does not
grokking      held-out loss falls while train loss is already flat; or neither moves yet and the representation's
              dimension falls, which goes with the passage from memory to rule (feature rank: Fan et al., arXiv 2405.19454)
generalising  both losses fall
converged     nothing moves
diverging     train loss rises
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Regime = Literal["memorising", "grokking", "generalising", "converged", "diverging"]
Change = tuple[float, float]
"""A measurement before and after."""


def regime(
    train: Change, held_out: Change, dimension: Change, *, move: float = 0.02, shrink: float = 0.15
) -> Regime:
    """The regime between two moments.

    :param train: loss on training items, nats a token.
    :param held_out: loss on held-out items.
    :param dimension: intrinsic dimension of a hidden layer.
    :param move: relative change of a loss that counts as movement.
    :param shrink: relative fall of the dimension that counts; it is a noisier measurement.
    """

    def relative(change: Change) -> float:
        return (change[1] - change[0]) / max(abs(change[0]), 1e-9)

    fit, held = relative(train), relative(held_out)
    if fit > move:
        return "diverging"
    if held < -move:
        return "generalising" if fit < -move else "grokking"
    if fit < -move:
        return "memorising"
    return "grokking" if relative(dimension) < -shrink else "converged"


def settled(regimes: Sequence[Regime], patience: int = 2) -> Regime | None:
    """The latest regime that held for `patience` measurements in a row (hysteresis).

    :returns: None before any did.
    """
    for end in range(len(regimes), patience - 1, -1):
        window = regimes[end - patience : end]
        if len(set(window)) == 1:
            return window[0]
    return None
