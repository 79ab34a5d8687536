"""When a claim holds against its control, and what the report is told of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from components.shared.evaluation.claims import claim
from components.shared.evaluation.statistics import wilson


def right(hits: int, of: int = 100) -> np.ndarray:
    return np.arange(of) < hits


def compare(ours, theirs, **options):
    return claim("c", "arm", np.asarray(ours), "control", np.asarray(theirs), unit="u", **options)


def test_a_clear_difference_holds_and_one_within_the_noise_does_not():
    assert compare(right(60), right(20))["holds"]
    assert not compare(right(20), right(60))["holds"]
    lucky = compare(right(60), right(59))
    assert lucky["difference"] > 0 >= lucky["difference_low"] and not lucky["holds"]


def test_what_is_the_same_is_not_better():
    same = compare(right(50), right(50))
    assert not same["holds"] and same["difference"] == 0 and same["value"] == same["control_value"]


def test_where_less_is_better_the_whole_interval_lies_below_nothing():
    low, high = np.linspace(0.1, 0.3, 64), np.linspace(1.1, 1.4, 64)
    assert compare(low, high, higher_is_better=False)["holds"]
    assert not compare(high, low, higher_is_better=False)["holds"]
    assert not compare(low, low, higher_is_better=False)["holds"]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_tolerance_lets_the_arm_be_worse_by_that_much_and_no_more(sign):
    noise = np.random.default_rng(0).normal(0, 0.01, 200)
    control = np.random.default_rng(1).normal(0, 1, 200)
    found = [
        compare(control - sign * lost + noise, control, tolerance=0.1, higher_is_better=sign > 0)["holds"]
        for lost in (0.0, 0.09, 0.11)
    ]
    assert found == [True, True, False]


def test_paired_items_decide_what_the_arms_own_intervals_leave_open():
    hard = np.random.default_rng(2).normal(3.0, 2.0, 150)  # items differ far more than the models do
    ours, theirs = hard - np.random.default_rng(3).normal(0.2, 0.3, 150), hard
    found = compare(ours, theirs, higher_is_better=False)
    assert found["high"] > found["control_low"], "apart, the intervals overlap"
    assert found["holds"]
    shuffled = compare(np.random.default_rng(4).permutation(ours), theirs, higher_is_better=False)
    assert shuffled["value"] == pytest.approx(found["value"]) and not shuffled["holds"]


def test_right_and_wrong_have_wilsons_interval_and_quantities_a_bootstraps():
    found = compare(right(100), right(40))
    assert (found["low"], found["high"]) == wilson(1.0, 100) and found["low"] < 1
    assert (found["control_low"], found["control_high"]) == wilson(0.4, 100)
    losses = np.random.default_rng(5).normal(1.0, 0.5, 400)
    found = compare(losses, losses + 1)
    spread = 1.96 * losses.std() / 20
    assert (found["low"], found["high"]) == pytest.approx(
        (losses.mean() - spread, losses.mean() + spread), abs=0.01
    )


def test_it_is_plain_json_and_the_difference_is_that_of_the_values():
    found = compare(right(60), right(20), tolerance=0.05)
    assert json.loads(json.dumps(found)) == found
    assert found["value"] - found["control_value"] == pytest.approx(found["difference"])
    assert (found["value"], found["control_value"], found["unit"]) == (0.6, 0.2, "u")


@pytest.mark.parametrize("ours, theirs", [(right(5), right(5, 99)), (right(0, 0), right(0, 0))])
def test_unequal_or_no_items_are_refused(ours, theirs):
    with pytest.raises(ValueError, match="two equal vectors"):
        compare(ours, theirs)
