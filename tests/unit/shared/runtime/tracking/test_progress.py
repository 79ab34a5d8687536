"""Progress: JSON lines at a bearable rate, the last one always, and an ETA that a restart does not distort."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.tracking import progress as progress_module
from components.shared.runtime.tracking.progress import Progress


class Clock:
    """A monotonic clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_come_at_most_twice_a_second_and_the_last_always(tmp_path: Path, clock: Clock) -> None:
    progress = Progress("toy", file=tmp_path / "deep" / "progress.jsonl", stream=io.StringIO())
    progress.start("fit", 100)
    for step in range(100):
        clock.now += 0.05
        progress.step(loss=float(step))
    progress.done()
    found = lines(tmp_path / "deep" / "progress.jsonl")
    assert 10 <= len(found) <= 13
    assert found[-1] | {"time": 0} == {
        "time": 0,
        "task": "toy",
        "phase": "toy",
        "stage": "fit",
        "step": 100,
        "total": 100,
        "metrics": {"loss": 99.0},
        "eta": 0.0,
    }


def test_the_time_left_counts_only_the_steps_of_this_process(tmp_path: Path, clock: Clock) -> None:
    progress = Progress("toy", file=tmp_path / "p", stream=io.StringIO())
    progress.start("fit", 1000, at=900)
    assert progress.eta is None
    clock.now += 10
    progress.step(10)
    assert progress.eta == pytest.approx(90)  # one step a second, 90 left


def test_starting_a_stage_ends_the_one_before(tmp_path: Path, clock: Clock) -> None:
    progress = Progress("toy", file=tmp_path / "p", stream=io.StringIO())
    progress.start("first", 2)
    progress.step()
    progress.start("second", 3)
    progress.done()
    assert [(line["stage"], line["step"]) for line in lines(tmp_path / "p")] == [
        ("first", 0),
        ("first", 1),
        ("second", 0),
        ("second", 0),
    ]


def test_a_log_gets_plain_lines_without_control_codes(tmp_path: Path, clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress("toy", stream=stream)
    progress.start("fit", 100)
    for _ in range(100):
        clock.now += 0.1
        progress.step(loss=0.25)
    progress.done()
    progress.note("all is well")
    text = stream.getvalue()
    assert "\x1b" not in text and "\r" not in text
    assert "toy: fit 50/100 (50 %, 5 s left) loss 0.25" in text
    assert text.endswith("toy: fit 100/100 (100 %, 10.0 s) loss 0.25\ntoy: all is well\n")


def test_a_terminal_gets_a_bar(clock: Clock) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = Progress("toy", stream=stream)
    progress.start("fit", 3)
    progress.step(3, loss=0.5)
    progress.note("half way")
    progress.done()
    assert "3/3" in stream.getvalue() and "loss 0.5" in stream.getvalue() and "half way" in stream.getvalue()


def test_the_file_is_json_even_where_a_metric_is_not_a_number(tmp_path: Path) -> None:
    progress = Progress("toy", file=tmp_path / "p", stream=io.StringIO())
    progress.start("fit", 1)
    progress.step(loss=math.nan, size=2)
    progress.done()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    found = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "p").read_text().splitlines()]
    assert found[-1]["metrics"] == {"loss": None, "size": 2.0}


def test_a_file_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    stream = io.StringIO()
    progress = Progress("toy", file=tmp_path / "file" / "progress.jsonl", stream=stream)
    progress.start("fit", 2)
    progress.step()
    progress.done()
    assert stream.getvalue().count("no longer written") == 1


def test_the_task_comes_from_the_environment_of_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_TASK", "cognate-for-loop-1/2/cognate")
    progress = Progress("cognate", file=tmp_path / "p", stream=io.StringIO())
    progress.note("hello")
    assert lines(tmp_path / "p")[0]["task"] == "cognate-for-loop-1/2/cognate"
