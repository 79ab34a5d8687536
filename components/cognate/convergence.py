"""When has training converged? When the loss no longer falls by more than its own noise explains."""

from __future__ import annotations

import math
from collections.abc import Sequence


def converged(losses: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether the last `window` losses show no improvement worth going on for.

    The window is cut in two halves. Training goes on while the mean of the second half lies below that of the first by
    more than `tolerance` of it. An improvement that large but within one standard error of the difference of the means
    (Welch) does not count: it is noise. Fewer losses than `window` have not converged.

    :param losses: training loss of each step, nats a token.
    :param tolerance: relative improvement per half window.
    """
    if len(losses) < window:
        return False
    half = window // 2
    before, after = losses[-2 * half : -half], losses[-half:]
    (old, old_error), (new, new_error) = _mean_and_error(before), _mean_and_error(after)
    improvement = old - new
    return improvement <= max(tolerance * abs(old), math.hypot(old_error, new_error))


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and its standard error."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return mean, math.sqrt(variance / len(values))
