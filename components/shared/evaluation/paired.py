"""Two models on the same items: by how much one is better, suite by suite and overall.

An interval of the difference over items that both were asked is far tighter than two intervals side by side: both find
the same items hard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .outcomes import unpack
from .statistics import paired_interval

OVERALL = "overall"
"""What the difference of the overall scores is called among those of the suites."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """Ours − theirs on the same items, with a 95% interval.

    :param n: items.
    :param wins: items on which ours was the better one; `losses`, those on which theirs was.
    :param p: of McNemar's exact test that neither is the better one, not corrected for how many suites are looked at;
        None where items are not just right or wrong, and for the overall score.
    """

    difference: float
    low: float
    high: float
    n: int
    wins: int
    losses: int
    p: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval excludes that there is none."""
        return self.low > 0 or self.high < 0


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided p of the exact test of two correlated rates (McNemar 1947): discordant pairs fall like a fair coin."""
    pairs = wins + losses
    if not pairs:
        return 1.0
    tail = sum(math.comb(pairs, count) for count in range(min(wins, losses) + 1))
    return min(1.0, float(2 * tail / 2**pairs))  # integers until here: no tail is lost to rounding


def differences(
    ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]], *, seed: int = 0
) -> dict[str, Difference]:
    """The differences of all suites of which both were asked the same items, and `overall` over these.

    The interval of a suite is a paired bootstrap's over items (statistics.py). That of the overall score resamples the
    items of each suite apart, and corrects each suite for chance as the score does.

    :param ours: suite → score as JSON: {score, chance, outcomes, asked, …}; `theirs` likewise.
    :param seed: of the bootstrap.
    :returns: suite → difference, empty where there is no such suite.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Difference] = {}
    total, resampled = 0.0, np.zeros(RESAMPLES)
    for suite, score in ours.items():
        pair = _pair(score, theirs.get(suite, {}))
        if pair is None:
            continue
        a, b = pair
        found[suite] = _difference(a, b, seed)
        scale = 1 / max(1 - score["chance"], 1e-9)
        total += scale * found[suite].difference
        resampled += scale * _resampled(a - b, rng)
    if found:
        count = len(found)
        low, high = np.quantile(resampled / count, [0.025, 0.975])
        found[OVERALL] = Difference(
            total / count, float(low), float(high), *(sum(getattr(d, name) for d in found.values()) for name in COUNTS)
        )  # fmt: skip
    return found


COUNTS = ("n", "wins", "losses")


def _resampled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(RESAMPLES,) means of as many draws with replacement as there are values.

    How often each different value is drawn is multinomial: the same as drawing items, of which most are alike.
    """
    different, counts = np.unique(values, return_counts=True)
    drawn = rng.multinomial(values.size, counts / values.size, RESAMPLES)
    return np.asarray(drawn @ different / values.size)


def _pair(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    if not ours.get("outcomes") or not theirs.get("outcomes") or ours["asked"] != theirs["asked"]:
        return None
    return unpack(ours["outcomes"]), unpack(theirs["outcomes"])


def _difference(a: np.ndarray, b: np.ndarray, seed: int) -> Difference:
    difference, low, high = paired_interval(a, b, seed=seed, resamples=RESAMPLES)
    wins, losses = int((a > b).sum()), int((a < b).sum())
    whole = bool(np.isin(np.concatenate([a, b]), (0.0, 1.0)).all())
    return Difference(difference, low, high, a.size, wins, losses, mcnemar(wins, losses) if whole else None)
