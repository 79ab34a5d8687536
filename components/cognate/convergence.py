"""When has training converged? When the loss no longer falls by more than its own noise explains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def converged(losses: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether the last `window` losses show no improvement worth going on for.

    The window is cut in two halves. Training goes on while the mean of the second half lies below that of the first by
    more than `tolerance` of it. An improvement that large but within one standard error of the difference of the means
    (Welch) does not count: it is noise. Fewer losses than `window` have not converged.

    :param losses: training loss of each step, nats a token.
    :param window: steps, two at least a half.
    :param tolerance: relative improvement per half window.
    """
    if len(losses) < window:
        return False
    half = window // 2
    before, after = np.array(losses[-2 * half : -half]), np.array(losses[-half:])
    improvement = before.mean() - after.mean()
    noise = np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / half)
    return bool(improvement <= max(tolerance * abs(before.mean()), noise))
