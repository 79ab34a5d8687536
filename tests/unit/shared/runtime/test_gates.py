"""Quality gates: numbers, other metrics with an offset, and what is said when they make no sense."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from components.shared.runtime.config.gate import Gate, check, describe
from components.shared.runtime.errors import PhaseFailed


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


def test_a_metric_that_was_not_measured_is_named_with_its_neighbours() -> None:
    with pytest.raises(PhaseFailed, match=r"(?s)'scoer'.*measured: loss, score.*did you mean score"):
        check([Gate(metric="scoer", value=1)], {"score": 1.0, "loss": 2.0})


@pytest.mark.parametrize("value", ["before - after", "a b c", "0.5", "1e-3"])
def test_a_bound_that_is_neither_a_number_nor_a_metric_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="allowed"):
        Gate(metric="score", value=value)
