"""The edge of chaos: the tilt against closed form and brute force, and that it holds the band."""

from __future__ import annotations

import itertools
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.training.edge_of_chaos import FLOOR, UNKNOWN, Edge, tilted


def expected(q, rates):
    return sum(a * b for a, b in zip(q, rates, strict=True))


def learnability(rates, weights):
    raw = [w * max(p * (1 - p), FLOOR) for p, w in zip(rates, weights, strict=True)]
    return [value / sum(raw) for value in raw]


def test_with_two_cells_the_target_alone_decides():
    """q·0.9 + (1 − q)·0.2 = 0.65 has one solution, whatever the weights."""
    for weights in ([1, 1], [10, 1]):
        assert tilted([0.9, 0.2], weights, 0.65)[0] == pytest.approx((0.65 - 0.2) / 0.7, abs=1e-9)


def test_cells_of_one_rate_are_drawn_by_their_weights():
    assert tilted([0.4, 0.4, 0.4], [1, 2, 5], 0.65) == pytest.approx([1 / 8, 2 / 8, 5 / 8])


def test_when_the_rates_allow_no_such_mean_the_nearest_cell_is_drawn():
    assert tilted([0.1, 0.3], [1, 1], 0.65)[1] > 0.99
    assert tilted([0.9, 1.0], [1, 1], 0.65)[0] > 0.9


def test_of_all_distributions_with_that_mean_the_tilt_is_nearest_to_learnability():
    """Brute force over a grid of the simplex: no distribution of the same mean has a smaller KL to w·p(1 − p)."""
    rates, weights, target = [0.95, 0.6, 0.3, 0.05], [1.0, 2.0, 1.0, 3.0], 0.65
    base = learnability(rates, weights)

    def kl(q):
        return sum(a * math.log(a / b) for a, b in zip(q, base, strict=True) if a > 0)

    best = tilted(rates, weights, target)
    assert expected(best, rates) == pytest.approx(target, abs=1e-9)
    grid, compared = 60, 0
    for counts in itertools.product(range(grid + 1), repeat=3):
        if sum(counts) <= grid:
            q = [count / grid for count in (*counts, grid - sum(counts))]
            if abs(expected(q, rates) - target) < 0.002:
                compared += 1
                assert kl(q) > kl(best) - 0.01
    assert compared > 100


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.05, 0.95))
def test_the_tilt_is_a_distribution_whose_mean_comes_as_near_as_can_be(rates, target):
    q = tilted(rates, [1.0] * len(rates), target)
    assert sum(q) == pytest.approx(1) and all(0 <= share <= 1 for share in q)
    if min(rates) + 0.1 < target < max(rates) - 0.1:
        assert expected(q, rates) == pytest.approx(target, abs=0.01)


class Learner:
    """A simulated learner: skill in each cell grows with practice, harder cells more slowly; answers are coin flips."""

    def __init__(self) -> None:
        self.practice: dict[tuple[str, int], float] = {}
        self.rng = random.Random(5)

    def rate(self, cell):
        task, level = cell
        own = self.practice.get(cell, 0.0)
        return 1 / (1 + math.exp(1.3 * level - 2.5 - "abcdef".index(task) / 3 - own / 400))

    def answer(self, cells):
        right = [self.rng.random() < self.rate(cell) for cell in cells]
        for cell in cells:
            self.practice[cell] = self.practice.get(cell, 0.0) + 1
        return right


def practise(steps, *, steered):
    learner, rng = Learner(), random.Random(3)
    edge = Edge(dict.fromkeys("abcdef", 1.0), [1, 2, 3, 4, 5], {}, target=0.65, memory=0.9)
    shares = []
    for _ in range(steps):
        cells = edge.choose(64, rng) if steered else rng.choices(edge.cells, k=64)
        right = learner.answer(cells)
        edge.observe(cells, right)
        shares.append(sum(right) / 64)
    return shares[20:]


def test_a_learner_is_held_in_the_band_while_it_learns():
    """Coin flips alone put a batch of 64 at 0.65 outside 0.55–0.75 one time in eleven."""
    inside = [0.55 <= share <= 0.75 for share in practise(200, steered=True)]
    assert sum(inside) / len(inside) > 0.8
    uniform = [0.55 <= share <= 0.75 for share in practise(200, steered=False)]
    assert sum(uniform) / len(uniform) < 0.5


def test_the_state_survives_json():
    edge = Edge({"chain": 1.0, "sort": 2.0}, [1, 2], {}, target=0.65, memory=0.8)
    edge.observe([("chain", 1), ("sort", 2), ("chain", 1)], [True, False, True])
    again = Edge(
        {"chain": 1.0, "sort": 2.0}, [1, 2], json.loads(json.dumps(edge.rates)), target=0.65, memory=0.8
    )
    assert again.choose(50, random.Random(1)) == edge.choose(50, random.Random(1))


def test_success_is_averaged_as_worked_out_by_hand():
    edge = Edge({"chain": 1.0}, [1], {}, target=0.65, memory=0.8)
    edge.observe([("chain", 1), ("chain", 1)], [True, False])
    assert edge.rates["chain 1"] == pytest.approx(0.8 * (0.8 * UNKNOWN + 0.2) + 0.0)


def test_a_level_that_was_never_seen_is_taken_to_be_like_the_one_below():
    edge = Edge({"chain": 1.0, "sort": 1.0}, [1, 2, 3], {"chain 1": 0.9}, target=0.65, memory=0.9)
    assert edge.rate("chain", 3) == 0.9 and edge.rate("sort", 3) == UNKNOWN


def test_levels_may_be_given_task_by_task_and_a_level_named_twice_is_one_cell():
    edge = Edge({"chain": 1.0, "sort": 3.0}, {"chain": [1, 1, 2], "sort": [3]}, {}, target=0.65, memory=0.9)
    assert edge.cells == [("chain", 1), ("chain", 2), ("sort", 3)]
    assert edge.unsteered() == UNKNOWN
