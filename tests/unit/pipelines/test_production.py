"""Profile production: the four gates of the first design, and no other. Each passes and fails where it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from components.shared.runtime.config.gate import check
from pipelines.phases import PHASES
from pipelines.settings import composed

MEASURED = {
    "fitness_report": 0.8,
    "fitness_report_base": 0.5,
    "pass_at_1": 0.71,
    "stage_degradation": 0.019,
    "size/bytes": 1.9e6,
    "start/size/weights": 1e8,
    "score/mean": 0.46,
    "start/score/mean": 0.5,
}


@pytest.fixture(scope="module")
def production() -> Iterator[dict[str, Any]]:
    yield composed(list(PHASES), profile="production")


def test_it_is_profile_full_but_for_its_gates(production: dict[str, Any]) -> None:
    for phase, full in composed(list(PHASES), profile="full").items():
        ours = production[phase].settings.model_dump(exclude={"gates"})
        assert ours == full.settings.model_dump(exclude={"gates"})


def test_there_are_these_gates_and_each_stops_the_pipeline(production: dict[str, Any]) -> None:
    gates = {phase: [gate.metric for gate in each.settings.gates] for phase, each in production.items()}
    assert {phase: metrics for phase, metrics in gates.items() if metrics} == {
        "evomerge": ["fitness_report"],
        "training": ["pass_at_1"],
        "compression": ["stage_degradation", "size/bytes", "score/mean"],
    }
    assert all(gate.on_fail == "stop" for each in production.values() for gate in each.settings.gates)


@pytest.mark.parametrize(
    ("phase", "metric", "passes", "fails"),
    [
        ("evomerge", "fitness_report", 0.7951, 0.7949),
        ("training", "pass_at_1", 0.7001, 0.7),
        ("compression", "stage_degradation", 0.0199, 0.02),
        ("compression", "size/bytes", 1_999_999, 2_000_000),
        ("compression", "score/mean", 0.4501, 0.45),
    ],
)
def test_a_planted_figure_passes_or_fails_its_gate_alone(
    phase: str, metric: str, passes: float, fails: float, production: dict[str, Any]
) -> None:
    gates = production[phase].settings.gates
    assert all(result["passed"] for result in check(gates, {**MEASURED, metric: passes}))
    failed = [
        result["metric"] for result in check(gates, {**MEASURED, metric: fails}) if not result["passed"]
    ]
    assert failed == [metric]
