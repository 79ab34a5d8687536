"""The ten rungs: built from where a model stands, mixed of four kinds, climbed by success."""

from __future__ import annotations

import pytest

from components.shared.tasks.course import SOURCES, build, progressed, starting_rung, success
from components.shared.tasks.registry import TASKS

PLACES = {"chain": 2.2, "copy": 5.9}
SHARES = {"organic": 0.1, "retrieval": 0.1, "scenarios": 0.1}


def ladder(levels=None, shares=SHARES):
    return build(PLACES, {"chain": 3.0, "copy": 1.0}, levels or {}, shares, SOURCES)


def test_the_model_starts_where_each_task_is_at_its_own_place():
    start = starting_rung(PLACES)
    rung = ladder()[start - 1]
    assert start == 4
    assert rung.levels["chain"] == [1, 2] and rung.levels["copy"] == [5, 6]


def test_a_rung_up_is_a_level_up_as_far_as_the_levels_go():
    rungs = ladder({"copy": [1, 2, 3, 4, 5, 6]})
    assert [rung.levels["chain"][-1] for rung in rungs] == [1, 1, 1, 2, 3, 4, 5, 6, 7, 8]
    assert [rung.levels["copy"][-1] for rung in rungs] == [3, 4, 5, 6, 6, 6, 6, 6, 6, 6]


def test_a_rung_mixes_four_kinds_and_the_harder_ones_grow():
    rungs = ladder()
    for rung in rungs:
        assert sum(rung.tasks.values()) == pytest.approx(1) == pytest.approx(sum(rung.kinds.values()))
        assert set(rung.kinds) == {"synthetic", "organic", "retrieval", "scenarios"}
        assert rung.tasks["chain"] == pytest.approx(3 * rung.tasks["copy"])
        assert set(rung.tasks) <= set(TASKS)
    shares = [rung.kinds["scenarios"] for rung in rungs]
    assert shares == sorted(shares) and shares[0] == pytest.approx(0.05) and shares[-1] == pytest.approx(0.15)


def test_a_kind_without_a_share_is_not_drawn():
    rung = ladder(shares={"organic": 0.0, "retrieval": 0.0, "scenarios": 0.0})[0]
    assert set(rung.tasks) == {"chain", "copy"} and set(rung.kinds) == {"synthetic"}


def test_success_above_the_band_goes_up_below_it_down_and_never_beyond_the_ends():
    assert [progressed(5, rate, 0.55, 0.75) for rate in (0.9, 0.6, 0.2)] == [6, 5, 4]
    assert progressed(10, 1.0, 0.55, 0.75) == 10 and progressed(1, 0.0, 0.55, 0.75) == 1


def test_the_success_on_a_rung_is_that_of_its_hardest_cells_by_weight():
    rung = ladder()[3]
    rates = {"chain 2": 1.0, "copy 6": 0.0, "copy 5": 1.0}
    assert success(rung, rates, ["chain", "copy"]) == pytest.approx(0.75)
    assert success(rung, {}, ["chain"]) == 0.5
