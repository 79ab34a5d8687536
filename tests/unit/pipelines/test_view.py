"""A run's table says what is in its folder, whoever wrote it and whether or not anybody is at it."""

import time

import pytest
from rich.console import Console

from pipelines.cli.rendering.table import table
from pipelines.runs.events import Progress
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus, find
from pipelines.runs.log import EventLog
from pipelines.runs.state import read_state


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "runs" / "demo")
    made.write(RunStatus("demo", "running", 1000.0))
    return made


@pytest.fixture
def held(folder):
    """A process is at the run."""
    with folder.lock():
        yield


def shown(folder, now=1100.0):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(read_state(folder), now))
    return {line.split()[0]: line for line in console.export_text().splitlines() if line.strip()}


def put(folder, *statuses, progress=()):
    log = EventLog(folder.events, "demo")
    log.append(folder.read())
    for status in statuses:
        log.append(status, task=status.task)
    for task, line, at in progress:
        log.append(line, task=task, at=at)


def of(task, phase, status, *, started=1000.0, **known):
    return TaskStatus(task, phase, phase, status=status, started=started, **known)


def test_a_running_phase_shows_its_stage_its_share_and_the_time_that_is_left(folder, held):
    put(
        folder,
        of("a/0/cognate", "cognate", "succeeded", finished=1040.0, peak_memory_bytes=2**30),
        of("a/1/cognate", "cognate", "running", started=1020.0),
        progress=[("a/1/cognate", Progress("memory", 30, 120, 92.0), 1098.0)],
    )
    row = shown(folder)["cognate"]
    for words in ("running", "memory 30/120", "1 min 40 s", "1 min 30 s", "1,024 MiB"):
        assert words in row


def test_a_failure_is_shown_before_all_else(folder, held):
    put(
        folder,
        of("a/0/cognate", "cognate", "failed", finished=1001.0, error="exit code 7: a gate"),
        of("a/1/cognate", "cognate", "running"),
    )
    assert "failed" in shown(folder)["cognate"] and "a gate" in shown(folder)["cognate"]


def test_a_run_without_its_process_was_interrupted(folder):
    put(folder, of("bitnet", "bitnet", "running"))
    assert "interrupted" in shown(folder)["bitnet"]
    assert "interrupted" in shown(folder)["demo"]


def test_a_run_from_before_there_were_events_is_shown_from_its_folder(folder):
    folder.task("bitnet").write(of("bitnet", "bitnet", "succeeded", finished=1010.0))
    assert "succeeded" in shown(folder)["bitnet"]


def test_the_latest_run_is_the_one_that_was_started_last(folder):
    other = RunFolder(folder.path.parent / "a-later-one")
    other.write(RunStatus("a-later-one", "succeeded", time.time()))
    assert find(folder.path.parent).name == "a-later-one"
    assert find(folder.path.parent, "demo").path == find(folder.path.parent, str(folder.path)).path
