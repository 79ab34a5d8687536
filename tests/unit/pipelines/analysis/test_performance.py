"""The report of performance, from runs' folders alone: baseline and alert, success, sections, the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.shared.runtime.errors import InputError
from pipelines.analysis.history import report_of_runs
from pipelines.analysis.performance_page import render
from pipelines.cli import app
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus
from tests.unit.pipelines.analysis.recorded_runs import run, task


def executed(
    runs: Path, number: int, seconds: float, *, profile: str = "tiny", status: str = "succeeded"
) -> RunFolder:
    folder = RunFolder(runs / f"{profile}-{number:02}")
    folder.write(RunStatus(folder.name, status, profile=profile))  # type: ignore[arg-type]
    for name, share in (("training-a", 0.25), ("training-b", 0.75)):
        folder.task(name).write(
            TaskStatus(
                name, "training", "training", status=status, attempts=2, started=float(number),  # type: ignore[arg-type]
                finished=1000.0 + number, seconds=share * seconds, cpu_seconds=2 * share * seconds,
                peak_memory_bytes=100,
            )
        )  # fmt: skip
    return folder


def recorded(folder: RunFolder) -> None:
    """A task's record with what its process used, as components/shared/runtime/record.py leaves it."""
    used = [
        {"time": 0, "run": "", "step": step, "metrics": {"system/cpu_utilization_percentage": value}}
        for step, value in ((10, 50.0), (20, 150.0))
    ]
    path = folder.task("training-a").output("metrics")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"manifest": {}, "curves": [], "usage": used}))
    status = folder.task("training-a").read()
    assert status is not None
    status.outputs = {"metrics": folder.relative(path)}
    folder.task("training-a").write(status)


def test_ten_of_more_than_ten_that_take_half_as_long_again_are_an_alert(tmp_path: Path) -> None:
    for number in range(10):
        executed(tmp_path, number, 100.0)
    [pace] = report_of_runs(tmp_path).phase_performance["training"].paces
    assert (pace.executions, pace.baseline_time, pace.degraded, pace.cores) == (10, 100.0, False, 2.0)
    assert (pace.success_rate, pace.failures, pace.memory_bytes) == (1.0, 20, 100)
    for number in range(10, 19):
        executed(tmp_path, number, 155.0)
    assert (
        not report_of_runs(tmp_path).phase_performance["training"].degraded
    )  # one of the last ten was quick
    executed(tmp_path, 19, 155.0)
    executed(tmp_path, 50, 900.0, profile="full")
    report = report_of_runs(tmp_path)
    assert [pace.degraded for pace in report.phase_performance["training"].paces] == [False, True]
    assert "training (tiny) takes 1.6 times as long" in report.recommendations[0].replace("1.5 ", "1.6 ")
    assert "21 runs, 21 executions of phases; degraded: training" in report.summary()


def test_what_came_from_the_cache_or_is_damaged_is_no_execution(tmp_path: Path) -> None:
    for number, status in enumerate(("cached", "skipped", "cancelled", "running")):
        executed(tmp_path, number, 10.0, status=status)
    damaged = executed(tmp_path, 9, 10.0)
    (damaged.task("training-a").path / "status.json").write_text("{")
    assert report_of_runs(tmp_path).phase_performance == {}
    with pytest.raises(InputError, match="no such folder"):
        report_of_runs(tmp_path / "none")


def test_what_fails_often_is_in_the_recommendations_and_what_was_used_among_the_resources(
    tmp_path: Path,
) -> None:
    for number in range(6):
        folder = executed(tmp_path, number, 3600.0, status="failed" if number % 2 else "succeeded")
    executed(tmp_path, 0, 3600.0)
    recorded(RunFolder(tmp_path / "tiny-00"))
    report = report_of_runs(tmp_path)
    assert folder.exists() and report.phase_performance["training"].success_rate == 0.5
    assert any("fails in 50%" in advice for advice in report.recommendations)
    used = report.resource_utilization["phases"]["training"]
    assert (used["hours"], used["mean_cpu_utilization_percentage"]) == (6.0, 100.0)
    assert used["most_cpu_utilization_percentage"] == 150.0
    assert "cpu utilization percentage 100 (most 150)" in render(report)


def test_what_a_phase_gained_stands_beside_what_it_took(tmp_path: Path) -> None:
    def scored(score: float) -> dict[str, dict[str, float]]:
        return {"memory": {"score": score, "low": 0.0, "high": 1.0, "n": 4, "chance": 0.1}}

    folder = run(tmp_path, "one", 0.0)
    first = task(folder, "cognate", scores=scored(0.25))
    assert first is not None
    task(folder, "training", scores=scored(0.75), value=2.0, parents=[first.digest])
    report = report_of_runs(tmp_path)
    phases = report.model_performance["phases"]
    assert phases["training"]["gained"] == 0.5 and phases["cognate"]["gained"] is None
    assert "<td>+0.500</td>" in render(report)


def test_the_command_prints_the_five_sections_and_writes_the_page(tmp_path: Path) -> None:
    executed(tmp_path / "runs", 0, 10.0)
    page = tmp_path / "page.html"
    runner = CliRunner()
    result = runner.invoke(
        app, ["metrics", "report", "--runs", str(tmp_path / "runs"), "--json", "--html", str(page)]
    )
    assert result.exit_code == 0, result.output
    assert list(json.loads(result.output)) == [
        "phase_performance", "model_performance", "resource_utilization", "quality_metrics", "recommendations",
        "summary",
    ]  # fmt: skip
    headings = re.findall("<h2>(.+?)</h2>", page.read_text())
    assert len(headings) == 5 and "<script" not in page.read_text()
    shown = runner.invoke(app, ["metrics", "report", "--runs", str(tmp_path / "runs")])
    assert "training" in shown.output and "1 runs, 1 executions of phases" in shown.output
    refused = runner.invoke(app, ["metrics", "report", "--html", "page.svg"])
    assert refused.exit_code == 2
