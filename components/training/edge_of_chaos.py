"""Stages 4–6: train where success is neither certain nor hopeless.

A cell is a task at a level with a running success rate p. Sampling for learnability (SFL, Rutherford et al.,
arXiv 2408.15099) draws cells in proportion to p(1 − p). We draw from the distribution that is nearest to that one and whose
expected success rate is the middle of the band: q ∝ p(1 − p)·e^{θp}, the exponential tilt, with θ found by bisection. So
the success rate is held where we want it by choosing the difficulty, and within that learnability decides.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

UNKNOWN = 0.5
FLOOR = 0.02
"""A cell that always succeeds or always fails is still drawn now and then: it may have changed."""
STEEPEST = 60.0


def tilted(rates: Sequence[float], weights: Sequence[float], target: float) -> list[float]:
    """Probabilities q ∝ weight · max(p(1 − p), floor) · e^{θp} with Σ q·p as near to `target` as the rates allow.

    :param rates: success rate p of each cell.
    :param weights: how often each cell would be drawn were all rates the same.
    """
    base = [w * max(p * (1 - p), FLOOR) for p, w in zip(rates, weights, strict=True)]

    def drawn(theta: float) -> list[float]:
        raw = [b * math.exp(theta * (p - target)) for p, b in zip(rates, base, strict=True)]
        return [r / sum(raw) for r in raw]

    low, high = -STEEPEST, STEEPEST
    for _ in range(60):
        middle = (low + high) / 2
        expected = sum(q * p for q, p in zip(drawn(middle), rates, strict=True))
        low, high = (middle, high) if expected < target else (low, middle)
    return drawn((low + high) / 2)


class Edge:
    """The cells and their success rates.

    :param rates: "task level" → success rate; kept in the phase's state, so that a restart goes on with them.
    """

    def __init__(
        self,
        tasks: Mapping[str, float],
        levels: Sequence[int] | Mapping[str, Sequence[int]],
        rates: dict[str, float],
        *,
        target: float,
        memory: float,
    ) -> None:
        self.cells = [
            (task, level)
            for task in tasks
            for level in sorted({*(levels[task] if isinstance(levels, Mapping) else levels)})
        ]
        self.weights = [tasks[task] for task, _ in self.cells]
        self.rates, self.target, self.memory = rates, target, memory

    def rate(self, task: str, level: int) -> float:
        """The running success rate of a cell; before the first observation that of the next easier level known."""
        for easier in range(level, 0, -1):
            if f"{task} {easier}" in self.rates:
                return self.rates[f"{task} {easier}"]
        return UNKNOWN

    def choose(self, count: int, rng: random.Random) -> list[tuple[str, int]]:
        """`count` cells for the next batch."""
        rates = [self.rate(*cell) for cell in self.cells]
        return rng.choices(self.cells, tilted(rates, self.weights, self.target), k=count)

    def unsteered(self) -> float:
        """The success rate to be expected were cells drawn by their weights alone: uniform difficulty."""
        return sum(w * self.rate(*cell) for w, cell in zip(self.weights, self.cells, strict=True)) / sum(
            self.weights
        )

    def observe(self, cells: Sequence[tuple[str, int]], right: Sequence[bool]) -> None:
        """Take in how fresh items of these cells went, before anything was learnt from them."""
        for (task, level), success in zip(cells, right, strict=True):
            name = f"{task} {level}"
            self.rates[name] = self.memory * self.rate(task, level) + (1 - self.memory) * success
