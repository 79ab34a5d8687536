"""What the `forge` command says to programs: plans, states, reports, findings, events as JSON; and a run that it stops."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from kfp import dsl

from pipelines.runs.events import schema
from pipelines.runs.folder import RunFolder
from tests.pipeline.local.test_endings import with_a_stop
from tests.pipeline.local.toy_pipelines import append, write

ROOT = Path(__file__).resolve().parents[2]


@dsl.pipeline
def greeting(text: str = "hello"):
    append(before=write(text=text).output, text="!")


@pytest.fixture
def path(bench):
    return bench.compile(greeting)


def test_a_dry_run_prints_the_plan_and_leaves_nothing(forge, bench, path):
    code, text = forge("run-pipeline", "--pipeline", path, "--name", "never", "--dry-run", "--json")
    plan = json.loads(text)
    assert code == 0 and [(task["name"], task["fate"]) for task in plan["tasks"]] == [
        ("write", "run"),
        ("append", "run"),
    ]
    code, text = forge("run-pipeline", "--pipeline", path, "--name", "never", "--dry-run")
    assert code == 0 and "2 of 2 tasks run" in text and "no earlier run tells" in text
    assert not (bench.runs / "never").exists()


def test_a_run_its_state_its_report_and_its_events_are_json(forge, path):
    code, text = forge("run-pipeline", "--pipeline", path, "--name", "one", "--json")
    assert code == 0 and json.loads(text)["state"] == "succeeded"
    state = json.loads(forge("status", "one", "--json")[1])
    assert [task["state"] for task in state["tasks"]] == ["succeeded", "succeeded"]
    report = json.loads(forge("report", "one", "--json")[1])
    assert report["name"] == "one" and len(report["phases"]) == 8 and Path(report["page"]).is_file()
    lines = [json.loads(line) for line in forge("events", "one", "--after", "2")[1].splitlines()]
    assert [line["id"] for line in lines] == list(range(3, state["last_id"] + 1))
    assert json.loads(forge("events", "--schema")[1]) == schema()


def test_doctor_and_validate_say_the_same_as_json(forge, monkeypatch, tmp_path):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    code, text = forge("doctor", "--json")
    found = json.loads(text)
    assert code == 0 and found["healthy"] and {"verdict", "what", "found", "fix"} == set(found["findings"][0])
    code, text = forge("validate", "--json", "-O", "bitnet.threads=1")
    settings = json.loads(text)["phases"]["bitnet"]["settings"]
    assert code == 0 and settings["bitnet"]["threads"] == 1


def test_a_run_of_this_machine_is_cancelled_by_its_name(forge, bench):
    command = bench.command(with_a_stop, "long")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    started = bench.runs / "long" / "tasks" / "stoppable" / "checkpoints" / "started"
    while not started.exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    code, text = forge("cancel", "long")
    assert code == 0 and "is being stopped" in text
    assert process.wait(30) == 75
    assert RunFolder(bench.runs / "long").read().status == "interrupted"
    code, text = forge("cancel", "long")
    assert code == 6 and "nobody is at this run" in text


def test_a_runner_that_is_killed_leaves_a_run_that_says_so_and_goes_on(forge, bench):
    command = bench.command(with_a_stop, "lost")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    folder = RunFolder(bench.runs / "lost")
    started = folder.task("stoppable").checkpoints / "started"
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    while folder.active():
        time.sleep(0.05)
    assert json.loads(forge("status", "lost", "--json")[1])["state"] == "interrupted"
    code, text = forge("run-pipeline", "--resume", "lost")
    assert code == 0, text
    ids = [json.loads(line)["id"] for line in folder.events.read_text().splitlines()]
    assert ids == list(range(1, len(ids) + 1))
