"""A run's table says what is in its folder, whoever wrote it and whether or not anybody is at it."""

import json
import time

import pytest
from rich.console import Console

from pipelines.cli import view
from pipelines.runs.folder import RunFolder, Status, find


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "runs" / "demo")
    made.write_info(name="demo", started=1000.0, finished=None, status="running")
    return made


def shown(folder, *, active=True, now=1100.0):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view.table(folder, active=active, now=now))
    return {line.split()[0]: line for line in console.export_text().splitlines() if line.strip()}


def put(folder, task, phase, **known):
    folder.task(task).write(Status(task, phase, phase, **known))


def test_a_running_phase_shows_its_stage_its_share_and_the_time_that_is_left(folder):
    put(
        folder,
        "a/0/cognate",
        "cognate",
        status="succeeded",
        started=1000.0,
        finished=1040.0,
        peak_memory_bytes=2**30,
    )
    put(folder, "a/1/cognate", "cognate", status="running", started=1020.0)
    line = {"time": 1098.0, "stage": "memory", "step": 30, "total": 120, "eta": 92.0}
    progress = folder.task("a/1/cognate").progress
    progress.write_text(json.dumps({"time": 1.0, "note": "x"}) + "\n" + json.dumps(line) + '\n{"time": 10')
    row = shown(folder)["cognate"]
    assert (
        "running" in row
        and "memory 30/120" in row
        and "1:40 min" in row
        and "1:30 min" in row
        and "1,024 MiB" in row
    )


def test_a_failure_is_shown_before_all_else(folder):
    put(
        folder,
        "a/0/cognate",
        "cognate",
        status="failed",
        started=1000.0,
        finished=1001.0,
        error="exit code 7: a gate",
    )
    put(folder, "a/1/cognate", "cognate", status="running", started=1000.0)
    assert "failed" in shown(folder)["cognate"] and "a gate" in shown(folder)["cognate"]


def test_a_run_without_its_process_was_interrupted(folder):
    put(folder, "bitnet", "bitnet", status="running", started=1000.0)
    assert "interrupted" in shown(folder, active=False)["bitnet"]
    assert "interrupted" in shown(folder, active=False)["demo"]


def test_the_latest_run_is_the_one_that_was_started_last(folder):
    other = RunFolder(folder.path.parent / "a-later-one")
    other.write_info(name="a-later-one", started=time.time(), status="succeeded")
    assert find(folder.path.parent).name == "a-later-one"
    assert find(folder.path.parent, "demo").path == find(folder.path.parent, str(folder.path)).path


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1:00 min"), (187, "3:07 min"), (8100, "2:15 h")]
)
def test_durations_are_short(seconds, text):
    assert view.duration(seconds) == text
