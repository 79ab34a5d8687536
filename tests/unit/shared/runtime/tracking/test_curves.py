"""metrics.jsonl: thinned evenly, and taken back to where a checkpoint was."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.runtime.checkpoint import scratch
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.tracking import curves


def line(step: int | None, run: str = "", **metrics: float) -> dict[str, Any]:
    return {"time": 1.0, "run": run, "step": step, "metrics": metrics}


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "link to nowhere"])
def test_what_has_the_name_of_the_metrics_and_is_no_file_makes_way(tmp_path: Path, kind: str) -> None:
    """Who opens a fifo waits for another end."""
    file, other = tmp_path / "work" / curves.FILE, tmp_path / "other"
    file.parent.mkdir()
    other.write_text("another's")
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        (file / "deep").mkdir(parents=True)
    else:
        file.symlink_to(other if kind == "link" else "nowhere")
    with scratch.exclusive(file.parent):
        assert not os.path.lexists(file)
    assert other.read_text() == "another's"


def test_the_metrics_so_far_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "work" / curves.FILE
    file.parent.mkdir()
    file.write_text(json.dumps(line(1, loss=1.0)))
    with scratch.exclusive(file.parent):
        assert curves.read(file) == [line(1, loss=1.0)]


@given(st.integers(1, 300), st.integers(2, 60))
def test_a_thinned_curve_keeps_its_ends_and_is_even(count: int, points: int) -> None:
    found = curves.thinned([line(step, loss=step) for step in range(count)], points)
    steps = [one["step"] for one in found]
    assert steps[0] == 0 and steps[-1] == count - 1
    assert len(steps) == len(set(steps)) == min(count, points)
    gaps = [b - a for a, b in itertools.pairwise(steps)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_each_metric_of_each_run_is_thinned_by_itself() -> None:
    lines = [line(step, loss=step) for step in range(100)]
    lines += [line(step, "evaluation", loss=step) for step in range(3)] + [line(None, score=0.5)]
    lines[50]["metrics"]["rare"] = 1.0
    found = curves.thinned(lines, 10)
    assert sum("loss" in one["metrics"] and not one["run"] for one in found) == 10
    assert sum(one["run"] == "evaluation" for one in found) == 3
    assert [one["metrics"]["rare"] for one in found if "rare" in one["metrics"]] == [1.0]
    assert found[-1] == lines[-1]


def test_what_is_no_number_is_null_since_json_knows_no_other(tmp_path: Path) -> None:
    (tmp_path / "m").write_text(json.dumps(line(0, loss=float("nan"))) + "\n")
    [found] = curves.read(tmp_path / "m")
    assert found["metrics"] == {"loss": None} and json.dumps(found, allow_nan=False)


def test_where_nothing_was_measured_there_is_no_curve(tmp_path: Path) -> None:
    assert curves.read(tmp_path / "nothing") == [] and curves.mark(tmp_path / "nothing") == 0


@pytest.mark.parametrize("kind", ["save", "append"])
@pytest.mark.parametrize("same_disk", [True, False])
def test_what_was_measured_behind_the_last_checkpoint_is_measured_again_and_stands_there_once(
    kind: str, same_disk: bool, s3_uri: str, tmp_path: Path
) -> None:
    def measure(file: Path, step: int) -> None:
        with file.open("a") as open_file:
            open_file.write(json.dumps(line(step, loss=1 / (step + 1))) + "\n")

    first, second = tmp_path / "first", tmp_path / ("first" if same_disk else "second")
    before = Checkpoints(f"{s3_uri}/run", "ab" * 32, metrics=first)
    for step in range(5):
        measure(first, step)
        if step < 3:
            getattr(before, kind)(step + 1, {}, {})
    after = Checkpoints(f"{s3_uri}/run", "ab" * 32, metrics=second, say=lambda text: None)
    assert (after.restore() if kind == "save" else list(after.parts())[-1]).step == 3  # type: ignore[union-attr]
    measure(second, 3)
    after.restore()  # of another stage: what this process has measured since is its own
    measure(second, 4)
    assert [one["step"] for one in curves.read(second)] == [0, 1, 2, 3, 4]
    assert after.put_metrics() == f"{s3_uri}/run/{'ab' * 8}/metrics.jsonl"
    after.save(5, {}, {})
    assert any(entry.key == "metrics.jsonl" for entry in after.store.list())
    after.clear()
    assert after.store.list() == []


@pytest.mark.parametrize(
    "cut", ['{"time": 1.0, "st', f'{{"time": 1.0, "st{json.dumps(line(1, loss=1))}', "3", "\0\0"]
)
def test_a_line_that_was_cut_off_does_not_fail_the_phase_whose_result_is_there(
    cut: str, tmp_path: Path
) -> None:
    (tmp_path / "m").write_text(f"{json.dumps(line(0, loss=2))}\n{cut}\n{json.dumps(line(2, loss=0))}\n")
    assert [one["step"] for one in curves.read(tmp_path / "m")] == [0, 2]
