"""Curves for the report: thinned to means, and left alone where they are short."""

from __future__ import annotations

import pytest

from components.shared.evaluation.curves import POINTS, curve


def test_a_long_curve_is_thinned_to_means_over_equal_stretches():
    found = curve({"loss": [float(step) for step in range(1000)], "band": [0.5] * 1000}, "nats")
    assert len(found["x"]) == POINTS and found["x"][-1] == 1000
    assert found["series"]["loss"][0] == 2.0 and found["series"]["loss"][-1] == 997.0
    assert set(found["series"]["band"]) == {0.5}


@pytest.mark.parametrize("steps", [0, 1, POINTS, POINTS + 1, 399])
def test_every_step_counts_once_and_a_short_curve_is_what_it_was(steps):
    values = [float(step) for step in range(steps)]
    found = curve({"loss": values}, "nats")
    if steps <= POINTS:
        assert found["series"]["loss"] == values and found["x"] == list(range(1, steps + 1))
    widths = [b - a for a, b in zip([0, *found["x"]], found["x"], strict=False)]
    assert sum(w * y for w, y in zip(widths, found["series"]["loss"], strict=True)) == pytest.approx(
        sum(values)
    )
