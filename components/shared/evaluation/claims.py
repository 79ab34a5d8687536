"""A claim beside its control, measured on the same items: what a phase leaves in `run.extra["controls"]`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .statistics import mean_interval, paired_interval


def claim(
    text: str,
    arm: str,
    ours: np.ndarray,
    control: str,
    theirs: np.ndarray,
    *,
    unit: str,
    higher_is_better: bool = True,
    tolerance: float = 0.0,
    seed: int = 0,
) -> dict[str, Any]:
    """That the arm is better than its control, or, with a tolerance, that it is not worse by more than this.

    `holds` is true where the whole paired 95% interval of the difference, arm − control, says so. Each arm's own interval
    is there to be looked at: two may overlap where the difference is clear, for both arms find the same items hard.

    :param ours: (n,) item by item: bool where right or wrong, float where it is a quantity.
    :param theirs: (n,) the control's, on the same items in the same order.
    :param tolerance: in the unit of the values.
    :returns: plain JSON, as the report reads it.
    :raises ValueError: the two are not of one length, or empty.
    """
    difference, low, high = paired_interval(ours, theirs, seed=seed)
    value, value_low, value_high = mean_interval(ours, seed=seed)
    control_value, control_low, control_high = mean_interval(theirs, seed=seed)
    return {
        "claim": text,
        "arm": arm,
        "value": value,
        "low": value_low,
        "high": value_high,
        "control": control,
        "control_value": control_value,
        "control_low": control_low,
        "control_high": control_high,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "unit": unit,
        "higher_is_better": higher_is_better,
        "holds": (low if higher_is_better else -high) > -tolerance,
    }
