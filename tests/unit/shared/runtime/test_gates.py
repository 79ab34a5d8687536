"""Quality gates: numbers, other metrics with an offset, and what is said when they make no sense."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from components.shared.runtime.config.gate import Gate, check, describe
from components.shared.runtime.errors import PhaseFailed
from components.shared.runtime.measured import suites_of


def passed(op: str, value: float | str, **metrics: float) -> bool:
    [result] = check([Gate(metric="score", op=op, value=value)], metrics)  # type: ignore[arg-type]
    return bool(result["passed"])


@pytest.mark.parametrize(
    ("op", "below", "equal", "above"),
    [
        (">=", False, True, True),
        (">", False, False, True),
        ("<=", True, True, False),
        ("<", True, False, False),
    ],
)
def test_each_comparison_holds_where_it_should(op: str, below: bool, equal: bool, above: bool) -> None:
    assert passed(op, 0.5, score=0.4) is below
    assert passed(op, 0.5, score=0.5) is equal
    assert passed(op, 0.5, score=0.6) is above


@pytest.mark.parametrize(
    ("value", "bound"),
    [
        ("before", 0.5),
        ("before - 0.05", 0.45),
        ("before + .25", 0.75),
        ("before * 0.9", 0.45),
        ("before - 1e-1", 0.4),
        ("before - 2%", 0.49),
        ("before + 59%", 0.795),
    ],
)
def test_a_gate_may_name_another_metric_with_an_offset_or_a_factor(value: str, bound: float) -> None:
    [result] = check([Gate(metric="score", value=value)], {"score": 0.6, "before": 0.5})
    assert result["bound"] == pytest.approx(bound)


def test_names_with_slashes_and_dashes_are_names() -> None:
    [result] = check(
        [Gate(metric="score/in-domain", value="input/score/in-domain - 0.1")],
        {"score/in-domain": 0.5, "input/score/in-domain": 0.55},
    )
    assert result["passed"] and result["bound"] == pytest.approx(0.45)


FINITE = st.floats(-1e6, 1e6, allow_nan=False)
AMOUNT = st.decimals(0, 1000, places=3).map(str)
NAME = st.from_regex(r"[a-z_]+(/[a-zA-Z0-9_.:-]+){0,3}", fullmatch=True)


def bound_of(value: str, metrics: dict[str, float]) -> float:
    return Gate(metric="score", value=value).bound(metrics)


@settings(max_examples=60, deadline=None)
@given(NAME, FINITE, AMOUNT, st.sampled_from(["+", "-"]), st.sampled_from(["", "%"]))
def test_a_distance_from_a_metric_is_what_it_says_on_the_side_that_it_says(
    name: str, base: float, amount: str, sign: str, percent: str
) -> None:
    bound = bound_of(f"{name} {sign} {amount}{percent}", {name: base})
    distance = float(amount) * (abs(base) / 100 if percent else 1)
    assert bound == pytest.approx(base + distance if sign == "+" else base - distance)
    assert (bound >= base) if sign == "+" else (bound <= base)


@settings(max_examples=60, deadline=None)
@given(NAME, st.floats(0, 1e6), st.integers(0, 100))
def test_a_percentage_off_is_the_factor_that_is_left(name: str, base: float, percent: int) -> None:
    taken, left = f"{name} - {percent}%", f"{name} * {(100 - percent) / 100}"
    assert bound_of(taken, {name: base}) == pytest.approx(bound_of(left, {name: base}), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_refused_by_name_or_read_as_one_metric_and_a_distance(text: str) -> None:
    try:
        gate = Gate(metric="score", value=text)
    except ValidationError as error:
        assert "allowed" in str(error)
    else:
        assert gate.names[1] == text.split()[0] and len(text.split()) in (1, 3)


def test_not_a_number_passes_no_gate() -> None:
    assert not any(passed(op, 0.5, score=math.nan) for op in (">=", "<=", ">", "<"))


def test_a_result_says_everything_that_the_manifest_needs() -> None:
    [result] = check([Gate(metric="score", op="<", value=2, on_fail="warn")], {"score": 3.0})
    assert result == {
        "metric": "score",
        "value": 3.0,
        "op": "<",
        "bound": 2.0,
        "passed": False,
        "on_fail": "warn",
    }
    assert describe(result) == "score 3 < 2 failed"


def test_a_bound_that_was_no_number_is_shown_in_its_own_words() -> None:
    [result] = check([Gate(metric="score", value="start/score - 2%")], {"score": 0.4, "start/score": 0.5})
    assert result["against"] == "start/score - 2%"
    assert describe(result) == "score 0.4 >= 0.49 (start/score - 2%) failed"


def test_a_gate_can_name_what_a_score_is_made_of() -> None:
    score = {"score": 0.5, "low": 0.4, "high": 0.6, "n": 8, "chance": 0.0}
    details = {
        "efficiency": {"flops_per_right": 5e6, "chain 1": {"score": 0.5, "n": 8}},
        "safety": {"refused": 0.9, "obeyed": 0.4},
    }
    values = suites_of({suite: score | {"detail": detail} for suite, detail in details.items()})
    gates = [
        Gate(metric="flops_per_right/efficiency", op="<", value=6e6),
        Gate(metric="obeyed/safety", value=0.5),
    ]
    assert [result["passed"] for result in check(gates, values)] == [True, False]
    assert values["score/mean"] == 0.5 and not any("chain" in name for name in values)


def test_a_metric_that_was_not_measured_is_named_with_its_neighbours() -> None:
    with pytest.raises(PhaseFailed, match=r"(?s)'scoer'.*measured: loss, score.*did you mean score"):
        check([Gate(metric="scoer", value=1)], {"score": 1.0, "loss": 2.0})


@pytest.mark.parametrize(
    "value",
    ["before - after", "a b c", "0.5", "1e-3", "before * 2%", "before -2%", "before - 2 %", "before - ٢", ""],
)
def test_a_bound_that_is_neither_a_number_nor_a_metric_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="allowed"):
        Gate(metric="score", value=value)
