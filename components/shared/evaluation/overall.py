"""One figure for a model: the unweighted mean of its suites' scores, each corrected for what guessing gives.

A corrected score is (score − chance) / (1 − chance), as Cohen's kappa corrects agreement (Cohen 1960): 0 is guessing, 1 is
everything right, below 0 is worse than guessing. So a suite of yes and no counts no more than one that cannot be guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Overall(NamedTuple):
    """The overall score of a model with its 95% interval.

    :param suites: how many suites it is the mean of.
    """

    score: float
    low: float
    high: float
    suites: int


def corrected(value: float, chance: float) -> float:
    """A score without what guessing gives; 0 where guessing is always right."""
    return (value - chance) / (1 - chance) if chance < 1 else 0.0


def overall(scores: Mapping[str, Mapping[str, Any]]) -> Overall | None:
    """The mean of the corrected scores, each suite counted once; None without suites.

    Its interval is made of the suites' own, which are independent: each end is as far from the mean as the root of the
    summed squares of theirs (MOVER: Zou and Donner 2008). So it needs no items, and an old score is as good as a new one.

    :param scores: suite → {score, low, high, chance, …}.
    """
    if not scores:
        return None
    middle, down, up = 0.0, 0.0, 0.0
    for score in scores.values():
        value, low, high = (corrected(score[end], score["chance"]) for end in ("score", "low", "high"))
        middle += value
        down += (value - low) ** 2
        up += (high - value) ** 2
    count = len(scores)
    mean = middle / count
    return Overall(mean, mean - math.sqrt(down) / count, mean + math.sqrt(up) / count, count)
