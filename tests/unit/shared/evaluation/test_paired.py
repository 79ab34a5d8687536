"""Differences over the same items, and one figure for a model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.evaluation import outcomes
from components.shared.evaluation.overall import corrected, overall
from components.shared.evaluation.paired import OVERALL, differences, mcnemar
from components.shared.evaluation.statistics import wilson
from components.shared.tasks.item import Item


def score(right, chance=0.0, asked="a"):
    rate = float(np.mean(right))
    low, high = wilson(rate, len(right))
    return {
        "score": rate, "low": low, "high": high, "n": len(right), "chance": chance,
        "outcomes": outcomes.pack(right), "asked": asked,
    }  # fmt: skip


@given(st.lists(st.booleans()))
def test_right_and_wrong_come_back_from_a_character_each(right):
    text = outcomes.pack(right)
    assert len(text) == len(right) and outcomes.unpack(text).tolist() == [float(each) for each in right]


@given(st.lists(st.floats(0, 1), min_size=1))
def test_grades_come_back_to_four_places(grades):
    assert outcomes.unpack(outcomes.pack(grades)) == pytest.approx(np.array(grades), abs=5.1e-5)


def test_what_is_no_outcomes_is_refused():
    with pytest.raises(ValueError, match="no outcomes"):
        outcomes.unpack("10x")


def test_the_digest_of_the_items_sees_their_order_and_what_counts_as_right():
    one, two = Item("copy", 1, "report", "q", "a"), Item("copy", 1, "report", "q", "b")
    assert len({outcomes.asked(items) for items in ([one], [two], [one, two], [two, one])}) == 4
    assert outcomes.asked([one, two]) == outcomes.asked([one, two])


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 1, 0.21875),
        (12, 30, 0.007915897334896727),
        (200, 140, 0.0013410446705104107),
    ],
)
def test_mcnemar_is_scipys_binomial_test(wins, losses, p):
    """The figures are those of `scipy.stats.binomtest(wins, wins + losses)`, version 1."""
    assert mcnemar(wins, losses) == pytest.approx(p)


def test_a_model_does_not_differ_from_itself():
    scores = {"reasoning": score([True, False, True]), "safety": score([True, True], chance=0.5)}
    for difference in differences(scores, scores).values():
        assert (difference.difference, difference.low, difference.high, difference.clear) == (0, 0, 0, False)
        assert difference.wins == difference.losses == 0


def test_the_overall_difference_is_that_of_the_overall_scores_and_swaps_its_sign_with_the_models():
    rng = np.random.default_rng(0)
    ours = {"a": score(rng.random(300) < 0.7, 0.25, "x"), "b": score(rng.random(200) < 0.4, 0.0, "y")}
    theirs = {"a": score(rng.random(300) < 0.5, 0.25, "x"), "b": score(rng.random(200) < 0.3, 0.0, "y")}
    there, back = differences(ours, theirs)[OVERALL], differences(theirs, ours)[OVERALL]
    assert there.difference == pytest.approx(overall(ours).score - overall(theirs).score)
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-there.difference, -there.high, -there.low), abs=0.01
    )
    assert there.clear and there.low < there.difference < there.high
    assert (there.n, there.wins) == (500, back.losses)


def test_only_the_same_items_are_compared():
    ours, theirs = {"a": score([True], asked="x")}, {"a": score([False], asked="y")}
    assert differences(ours, theirs) == {} == differences(ours, {}) == differences({}, theirs)
    old = {"a": {name: value for name, value in ours["a"].items() if name != "outcomes"}}
    assert differences(ours, old) == {}


def test_grades_between_right_and_wrong_have_no_p():
    [difference, _] = differences({"a": score([0.5, 1.0])}, {"a": score([0.25, 1.0])}).values()
    assert difference.p is None and difference.difference == pytest.approx(0.125) and difference.wins == 1


def test_the_overall_score_is_the_mean_of_scores_corrected_for_chance():
    scores = {"a": score([True] * 3 + [False], 0.5), "b": score([True, False], 0.0)}
    total = overall(scores)
    assert total.score == pytest.approx((0.5 + 0.5) / 2) and total.suites == 2
    assert total.low < total.score < total.high
    assert overall({}) is None and corrected(1.0, 1.0) == 0.0


def test_of_one_suite_the_overall_interval_is_its_own_corrected():
    alone = score([True] * 30 + [False] * 10, 0.25)
    total = overall({"a": alone})
    assert total[:3] == pytest.approx([corrected(alone[end], 0.25) for end in ("score", "low", "high")])


def test_the_overall_interval_covers_the_truth_as_often_as_it_says():
    rng, truth, hits = np.random.default_rng(1), (0.6, 0.3), 0
    expected = (corrected(0.6, 0.25) + corrected(0.3, 0.0)) / 2
    for _ in range(400):
        total = overall(
            {"a": score(rng.random(100) < truth[0], 0.25), "b": score(rng.random(100) < truth[1], 0.0)}
        )
        hits += total.low <= expected <= total.high
    assert 0.92 < hits / 400 < 0.98
