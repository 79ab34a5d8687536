"""Racing: a candidate sees few items first, and all of them only as long as it may still win.

Sources: successive halving of the budget (Jamieson and Talwalkar, arXiv 1502.07943) with the paired comparison of racing
(Birattari et al., A racing algorithm for configuring metaheuristics, GECCO 2002): after a quarter and after half of the
items the candidate is compared with its rival on the same items, and leaves where a one-sided 97.5% bound of the mean
difference is below 0. One merge a candidate, whatever it sees.
"""

from __future__ import annotations

import math

import numpy as np

STAGES = (4, 2, 1)  # the items' parts up to which a stage goes: a quarter, half, all
Z = 1.96


def stages(items: int) -> list[tuple[int, int]]:
    """[(first, end), …] of the items of one suite, none of them empty; the last ends at `items`."""
    ends = [max(1, items // part) for part in STAGES]
    starts = [0, *ends[:-1]]
    return [(start, end) for start, end in zip(starts, ends, strict=True) if end > start]


def is_beaten(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether the mean of ours − theirs is surely below 0. Both (n,), of the same items, higher is better.

    Fewer than two items decide nothing.
    """
    difference = np.subtract(ours, theirs, dtype=np.float64)
    if len(difference) < 2:
        return False
    error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return float(difference.mean()) + Z * error < 0
