"""What the errors of codes are taken to cost."""

from __future__ import annotations

from components.compression.allocation.allocate import frontier, within
from components.compression.allocation.sensitivity import rate_points
from components.compression.codecs.encoding import RateDistortion

COARSE, MIDDLE, FINE = (
    RateDistortion("coarse", 100, 1.0),
    RateDistortion("middle", 200, 0.06),
    RateDistortion("fine", 400, 0.004),
)
FINEST = RateDistortion("finest", 1600, 1e-9)
IDLE, TIMID, BOLD = "idle", "timid", "bold"
SENSITIVITY = {IDLE: 0.0, TIMID: 0.01, BOLD: 5.0}


def at_price(price: float, points: list[RateDistortion], sensitivity: dict[str, float]) -> dict[str, str]:
    """The least of KL + price · bytes, tensor by tensor."""
    table = rate_points({path: {str(p.code): p for p in points} for path in (IDLE, TIMID, BOLD)}, sensitivity)
    return {
        path: min(row, key=lambda point: point.kl_increase + price * point.bytes).preset
        for path, row in table.items()
    }


def test_a_tensor_that_plays_no_part_is_coded_as_the_least_sensitive_that_does() -> None:
    for price in (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        chosen = at_price(price, [COARSE, MIDDLE, FINE, FINEST], SENSITIVITY)
        assert chosen[IDLE] == chosen[TIMID]
    assert at_price(1e-5, [COARSE, MIDDLE, FINE], SENSITIVITY) == {
        IDLE: MIDDLE.code,
        TIMID: MIDDLE.code,
        BOLD: FINE.code,
    }


def test_a_finer_candidate_does_not_make_an_idle_tensor_dearer_at_the_same_price() -> None:
    for price in (1e-7, 1e-6, 1e-5, 1e-4, 1e-3):
        before = at_price(price, [COARSE, MIDDLE, FINE], SENSITIVITY)
        assert at_price(price, [COARSE, MIDDLE, FINE, FINEST], SENSITIVITY)[IDLE] == before[IDLE]


def test_the_smallest_model_of_all_is_within_reach_whatever_plays_no_part() -> None:
    points = {path: {str(p.code): p for p in (COARSE, FINEST)} for path in SENSITIVITY}
    choices = frontier(rate_points(points, SENSITIVITY))
    assert choices[0].bytes == 3 * COARSE.bytes
    choice = within(choices, 2 * COARSE.bytes + FINEST.bytes)
    assert choice is not None and choice.presets == {IDLE: "coarse", TIMID: "coarse", BOLD: "finest"}


def test_where_no_tensor_counts_bytes_go_where_they_save_most_error() -> None:
    points = {"small": {str(p.code): p for p in (RateDistortion("a", 10, 1.0), RateDistortion("b", 20, 0.5))},
              "large": {str(p.code): p for p in (RateDistortion("a", 10, 9.0), RateDistortion("b", 20, 2.0))}}  # fmt: skip
    choice = within(frontier(rate_points(points, {"small": 0.0})), 30)
    assert choice is not None and choice.presets == {"small": "a", "large": "b"}
