"""What a run has measured, of tasks that are done and of those that are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.shared.runtime.errors import ConfigError, InputError
from pipelines.analysis import plots
from pipelines.analysis.measurements import measurements
from pipelines.runs.folder import RunFolder
from tests.unit.pipelines.analysis.recorded_runs import run, task, trained


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run whose training is done and whose baking is under way."""
    made = run(tmp_path, "demo", 100.0, "running")
    lines = [{"run": "", "step": step, "metrics": {"held_out_loss": 3.0 - step}} for step in (1, 2)]
    task(made, "training", curves=lines, scores={"memory": {"score": 0.5}}, **trained())
    task(made, "baking", status="running")
    task(made, "adas", status="pending")
    return made


def test_a_task_that_is_done_has_its_record_its_scores_and_its_curves(folder: RunFolder) -> None:
    named = {one.name: one for one in measurements(folder, task="training")}
    assert named["held_out_loss"].values == [2.0, 1.0] and named["held_out_loss"].steps == [1.0, 2.0]
    assert named["score/memory"].last == 0.5
    loss = named["loss through the ten stages: train"]
    assert (loss.values, loss.ylabel, loss.group) == (
        [4.0, 3.0] * 3,
        "nats a token",
        "loss through the ten stages",
    )


def test_of_a_task_that_runs_there_is_what_it_has_said_so_far(folder: RunFolder) -> None:
    place = folder.task("baking")
    work = place.checkpoints / "0123456789abcdef.work"
    work.mkdir(parents=True)
    line = {"time": 1.0, "run": "child", "step": 3, "metrics": {"kl": 0.25}}
    (work / "metrics.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line)[:20])
    progress = [{"stage": "bake", "step": step, "metrics": {"loss": 2.0 / step}} for step in (1, 2)]
    place.progress.write_text("\n".join(map(json.dumps, [*progress, {"note": "hello"}])) + '\n{"sta')
    found = {one.name: one.values for one in measurements(folder, task="baking")}
    assert found == {"child/kl": [0.25], "bake: loss": [2.0, 1.0]}


def test_names_are_chosen_by_a_pattern_or_by_a_part(folder: RunFolder) -> None:
    assert [one.name for one in measurements(folder, pattern="score/*")] == ["score/memory"]
    assert [one.name for one in measurements(folder, pattern="GEOMETRY")] == ["geometry: intrinsic dimension"]
    with pytest.raises(InputError, match="did you mean score/memory"):
        measurements(folder, pattern="score/memry")
    with pytest.raises(InputError, match="did you mean training"):
        measurements(folder, task="trainin")


def test_curves_are_drawn_together_where_they_belong_together(folder: RunFolder, tmp_path: Path) -> None:
    panels = plots.panels_of(measurements(folder))
    assert [title for title, _ in panels] == [
        "training · held_out_loss",
        "training · loss through the ten stages",
        "training · success rate",
        "training · geometry",
    ]
    plots.write(tmp_path / "x.svg", plots.grid(panels), "demo")
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    plots.write(tmp_path / "x.html", plots.grid(panels), "a < b", "1 < 2")
    assert "<h1>a &lt; b</h1>" in (tmp_path / "x.html").read_text()
    with pytest.raises(ConfigError, match=r"\.svg or \.html"):
        plots.write(tmp_path / "x.png", "", "demo")
    with pytest.raises(InputError, match="no curve"):
        plots.panels_of(measurements(folder, pattern="score/*"))
