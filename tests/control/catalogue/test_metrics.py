"""Curves, what they come to, the report of performance, and runs side by side."""

from __future__ import annotations

import random
import shutil
import statistics
from typing import Any

import pytest

from pipelines.analysis.performance import Pace
from pipelines.control.context import Control
from pipelines.control.errors import Refused
from pipelines.control.services import comparison, curves, performance
from pipelines.control.services.metrics import Point, points_of, record_execution, record_points
from tests.control.catalogue.made import catalogued
from tests.control.log.made import make_run


async def keep(
    control: Control, run: str, phase: str, name: str, values: list[float], begun: float = 0.0
) -> None:
    points = [Point(name, float(step), value, begun + step) for step, value in enumerate(values)]
    async with control.database.write() as connection:
        await record_points(connection, run, phase, phase, points)


async def drawn(control: Control, points: int = 500, **wanted: Any) -> curves.Curves:
    asked = {"runs": [], "phase": "", "task": "", "names": [], "limit": 20, **wanted}
    window = curves.Window(asked.pop("start", None), asked.pop("end", None), points)
    return await curves.curves(control, window=window, **asked)


async def aggregated(control: Control, **wanted: Any) -> list[curves.Aggregate]:
    asked = {
        "runs": [],
        "phase": "",
        "names": [],
        "start": None,
        "end": None,
        "latest": False,
        "limit": 99,
        **wanted,
    }
    return await curves.aggregates(control.database, **asked)


def test_an_event_without_numbers_has_no_points() -> None:
    data = {"values": {"a": 1, "b": None, "c": float("nan"), "d": float("inf")}, "stage": "trunk", "step": 3}
    assert points_of(data, 9.0) == [Point("trunk: a", 3.0, 1.0, 9.0)]
    assert points_of({**data, "stage": "result"}, 9.0) == [Point("a", 3.0, 1.0, 9.0)]


async def test_a_curve_is_what_was_recorded_and_an_attempt_that_begins_anew_writes_over_it(
    control: Control,
) -> None:
    await keep(control, "demo", "bitnet", "loss", [3.0, 2.0, 1.0])
    await keep(control, "demo", "bitnet", "loss", [3.5, 2.5], begun=100.0)
    [curve] = (await drawn(control, runs=["demo"])).series
    assert (curve.steps, curve.values) == ([0.0, 1.0, 2.0], [3.5, 2.5, 1.0])
    assert (curve.phase, curve.metric_name, curve.count, curve.cut) == ("bitnet", "loss", 3, False)


async def test_curves_are_found_by_run_phase_name_and_time(control: Control) -> None:
    await keep(control, "a", "bitnet", "loss", [1.0, 2.0], begun=100.0)
    await keep(control, "a", "bitnet", "accuracy", [1.0], begun=200.0)
    await keep(control, "b", "training", "loss", [1.0], begun=300.0)

    async def which(**wanted: Any) -> list[str]:
        return [f"{one.run} {one.metric_name} {one.count}" for one in (await drawn(control, **wanted)).series]

    assert await which() == ["b loss 1", "a accuracy 1", "a loss 2"]
    assert await which(runs=["a"], names=["loss"]) == ["a loss 2"]
    assert await which(phase="training") == ["b loss 1"]
    assert await which(start=101.0, end=250.0) == ["a accuracy 1", "a loss 1"]
    assert (await drawn(control, limit=2)).more
    assert await which(runs=["none"]) == []


async def test_a_long_curve_keeps_its_true_lowest_and_highest_point(control: Control) -> None:
    values = [random.Random(0).gauss(0, 1) for _ in range(12_000)]
    values[777], values[9_001] = 50.0, -50.0
    await keep(control, "demo", "training", "loss", values)
    await keep(control, "demo", "training", "short", [1.0])
    for _ in range(2):  # the second time from the cache
        long, short = sorted((await drawn(control, points=200)).series, key=lambda one: one.metric_name)
        assert (long.count, len(long.values), short.values) == (12_000, len(long.steps), [1.0])
        assert len(long.values) <= 200
        assert (max(long.values), min(long.values)) == (50.0, -50.0)
        assert all(values[int(step)] == value for step, value in zip(long.steps, long.values, strict=True))
    await keep(control, "demo", "training", "loss", [99.0], begun=1e6)
    long, _ = sorted((await drawn(control, points=200)).series, key=lambda one: one.metric_name)
    assert max(long.values) == 99.0  # not the old one from the cache


async def test_aggregates_are_those_of_all_points(control: Control) -> None:
    values = [random.Random(1).random() for _ in range(101)]
    await keep(control, "demo", "bitnet", "loss", values)
    await keep(control, "demo", "bitnet", "other", [7.0])
    [loss, other] = await aggregated(control, runs=["demo"])
    assert loss.mean == pytest.approx(statistics.fmean(values))
    assert (loss.count, loss.min, loss.max, loss.last, loss.last_time) == (
        101,
        min(values),
        max(values),
        values[-1],
        100.0,
    )
    assert loss.percentiles["50"] == statistics.median(values)
    assert loss.percentiles["95"] == sorted(values)[95]
    assert set(other.percentiles.values()) == {7.0}
    [latest] = await aggregated(control, names=["loss"], latest=True)
    assert (latest.count, latest.mean) == (1, values[-1])


async def test_names_are_all_that_were_ever_measured(control: Control) -> None:
    await keep(control, "a", "bitnet", "loss", [1.0])
    await keep(control, "b", "bitnet", "loss", [1.0])
    await keep(control, "b", "adas", "score", [1.0])
    assert [(name.phase, name.metric_name) for name in await curves.names(control.database, "")] == [
        ("adas", "score"), ("bitnet", "loss"),
    ]  # fmt: skip


async def executed(
    control: Control, number: int, seconds: float, *, profile: str = "tiny", status: str = "succeeded"
) -> None:
    for task, share in (("training-a", 0.25), ("training-b", 0.75)):
        ended = {"task": task, "phase": "training", "status": status, "attempts": 1, "seconds": share * seconds,
                 "cpu_seconds": share * seconds * 2, "peak_memory_bytes": 100, "finished": 1000.0 + number}  # fmt: skip
        async with control.database.write() as connection:
            await record_execution(connection, f"{profile}-{number}", profile, ended)
            await record_execution(
                connection, f"{profile}-{number}", profile, ended
            )  # told twice, counted once


async def paces(control: Control) -> dict[str, Pace]:
    report = await performance.report(control)
    return {pace.profile: pace for pace in report.phase_performance["training"].paces}


async def test_a_phase_has_degraded_when_ten_of_more_than_ten_take_half_as_long_again(
    control: Control,
) -> None:
    for number in range(10):
        await executed(control, number, 100.0)
    pace = (await paces(control))["tiny"]
    assert (pace.executions, pace.baseline_time, pace.recent_time, pace.degraded) == (10, 100.0, 100.0, False)
    assert (pace.success_rate, pace.memory_bytes, pace.cores) == (1.0, 100, 2.0)
    for number in range(10, 19):
        await executed(control, number, 155.0)
    assert not (await paces(control))["tiny"].degraded  # one of the last ten was quick: 149.5
    await executed(control, 19, 155.0)
    assert (await paces(control))["tiny"].degraded
    for number in range(12):
        await executed(control, 100 + number, 900.0, profile="full")
    assert {profile: pace.degraded for profile, pace in (await paces(control)).items()} == {
        "tiny": True,
        "full": False,
    }
    report = await performance.report(control)
    assert report.phase_performance["training"].degraded
    assert (
        "1.6 times as long" in report.recommendations[0] or "1.5 times as long" in report.recommendations[0]
    )
    assert "degraded: training" in report.summary()


async def test_ten_slow_executions_are_no_degradation_of_themselves(control: Control) -> None:
    for number in range(10):
        await executed(control, number, 1000.0 * number)
    assert not (await paces(control))["tiny"].degraded


async def test_what_fails_often_is_in_the_recommendations(control: Control) -> None:
    for number in range(6):
        await executed(control, number, 10.0, status="failed" if number % 2 else "succeeded")
    report = await performance.report(control)
    assert report.phase_performance["training"].success_rate == 0.5
    assert any("fails in 50%" in advice for advice in report.recommendations)


async def test_what_came_from_the_cache_or_was_stopped_is_no_execution(control: Control) -> None:
    for status in ("cached", "skipped", "cancelled", "running"):
        await executed(control, 1, 10.0, status=status)
    assert (await performance.report(control)).phase_performance == {}


async def test_the_report_has_the_five_sections(control: Control) -> None:
    await catalogued(control, control.settings.runs / "m", score=0.5)
    report = (await performance.report(control)).model_dump()
    assert list(report)[:5] == [
        "phase_performance", "model_performance", "resource_utilization", "quality_metrics", "recommendations",
    ]  # fmt: skip
    assert report["quality_metrics"] == {"bitnet": {"memory": 0.5, "safety": 0.5}}
    assert report["model_performance"]["best"][0]["score"] == 0.5


async def test_what_the_models_of_a_phase_gained_is_over_what_they_were_made_from(control: Control) -> None:
    runs = control.settings.runs
    first = await catalogued(control, runs / "m", score=0.25)
    await catalogued(control, runs / "n", score=0.75, mark=1, phase="training", parents=[first.digest])
    phases = (await performance.report(control)).model_performance["phases"]
    assert (phases["bitnet"]["gained"], phases["training"]["gained"]) == (None, 0.5)


async def test_runs_are_side_by_side_with_their_metrics_scores_and_claims(control: Control) -> None:
    claim = {"claim": "better", "low": 0.1, "high": 0.2}
    for number, run in enumerate(("a", "b")):
        await make_run(control.database, run, last_seq=1)
        await keep(control, run, "bitnet", "loss", [5.0, 1.0 + number])
        await keep(control, run, "bitnet", "same", [1.0])
        place = control.settings.runs / run
        await catalogued(control, place, run, "bitnet", mark=number, extra={"controls": [claim]})
    await keep(control, "b", "training", "only b", [1.0])
    found = await comparison.compare(control, ["a", "b"], [], True)
    assert {row.metric_name: (row.values, row.differs) for row in found.metrics} == {
        "loss": ({"a": 1.0, "b": 2.0}, True), "same": ({"a": 1.0, "b": 1.0}, False), "only b": ({"b": 1.0}, False),
    }  # fmt: skip
    assert [(model.run, model.claims) for model in found.models] == [("a", [claim]), ("b", [claim])]
    assert found.models[0].results["memory"]["low"] == 0.4
    assert found.models[0].overall and found.models[0].overall.score == pytest.approx(0.4 / 0.9)
    assert (await comparison.compare(control, ["a"], ["loss"], False)).models == []
    with pytest.raises(Refused, match="no such run"):
        await comparison.compare(control, ["a", "c"], [], True)


async def test_a_comparison_stands_where_a_model_has_gone(control: Control) -> None:
    await make_run(control.database, "a")
    await catalogued(control, control.settings.runs / "m", "a", "bitnet")
    shutil.rmtree(control.settings.runs / "m")
    [model] = (await comparison.compare(control, ["a"], [], True)).models
    assert "gone" in model.unreadable
