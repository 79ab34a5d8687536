"""The `forge` command, as a person at a terminal has it."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kfp import dsl
from kfp.dsl import Artifact, Output
from rich.console import Console

from pipelines.cli.rendering.live import LiveRun
from pipelines.local.execute import execute
from pipelines.local.plan import RunRequest
from pipelines.local.prepare import prepare
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus
from pipelines.runs.state import read_state
from tests.pipeline.local.toy_pipelines import append, fail, toy, write

ROOT = Path(__file__).resolve().parents[2]


def test_help_imports_nothing_but_the_command_line_itself():
    """Half a second on a quiet machine. What would cost more is a package that only some command needs."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pipelines.cli", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "run-pipeline" in done.stdout
    packages = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert {"typer", "rich", "pipelines"} <= packages
    heavy = "boto3 hydra jinja2 kfp kubernetes matplotlib mlflow numba numpy pandas pydantic torch transformers yaml"
    assert packages.isdisjoint(heavy.split())


@pytest.mark.parametrize("command", ["run-pipeline", "phase", "test", "compile", "submit"])
def test_the_help_of_a_command_has_examples(forge, command):
    code, text = forge(command, "--help")
    assert code == 0
    assert f"\n  forge {command} " in text


@dsl.pipeline
def greeting(profile: str = "toy", text: str = "hello"):
    append(before=write(text=text).output, text="!")


def test_a_pipeline_is_run_reported_and_shown(forge, bench):
    path = bench.compile(greeting)
    code, text = forge("run-pipeline", "--pipeline", path, "--name", "first", "-s", "text=good day")
    assert code == 0, text
    assert bench.text("append", "first") == "good day!"
    info = RunFolder(bench.runs / "first").read()
    assert info.status == "succeeded" and info.finished >= info.started
    assert info.parameters == {"profile": "toy", "text": "good day"}
    assert set(info.host) == {"name", "cores", "memory_bytes", "python", "torch"}
    assert (bench.runs / "first" / "report.html").is_file()
    assert (bench.runs / "first" / "pipeline.yaml").read_text() == path.read_text()
    assert "without meaning on this machine: image" in text
    code, text = forge("status")
    assert code == 0 and "first · succeeded" in text
    code, text = forge("report", "first")
    assert code == 0 and "report.html" in text


def test_on_a_terminal_the_phases_are_drawn_while_they_run(bench, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    screen = Console(force_terminal=True, width=100, file=io.StringIO())
    plan = prepare(RunRequest(runs=bench.runs, name="drawn", pipeline=bench.compile(greeting)))
    with LiveRun(screen) as listener:
        assert asyncio.run(execute(plan, listener)).ending == "succeeded"
    text = screen.file.getvalue()
    assert "drawn · running" in text and "append: succeeded" in text


def test_a_run_that_failed_names_the_task_its_log_and_how_to_go_on(forge, bench):
    @dsl.pipeline
    def broken():
        fail(text="")

    code, text = forge("run-pipeline", "--pipeline", bench.compile(broken), "--name", "bad")
    assert code == 9
    assert "failed: fail: exit code 3: it broke" in text
    assert str(bench.runs / "bad" / "tasks" / "fail" / "log.txt") in text
    assert f"forge run-pipeline --resume {bench.runs / 'bad'}" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--profile", "tyni"], "there is no profile 'tyni'"),
        (["-O", "cognate.tunk.steps=3"], "cognate.tunk"),
        (["-s", "bitnet_setting={}"], "did you mean bitnet_settings"),
        (["-s", "bitnet_settings={}"], "parameter bitnet_settings"),
        (["-s", "seed=many"], "NUMBER_INTEGER"),
        (["--from", "bitnet"], "--resume RUN"),
        (["--from", "bitnet", "--artifact", "a", "--artifact", "b"], "takes one model"),
        (["--artifact", "a"], "use --base-model"),
        (["--from", "adas", "--to", "bitnet"], "comes after"),
        (["--resume", "nothing"], "there is no run"),
        (["--pipeline", "none.yaml"], "forge compile"),
        (["--store", "ftp://somewhere"], "ftp://"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(forge, bench, arguments, words):
    code, text = forge("run-pipeline", "--name", "never", *arguments)
    assert code not in (0, 1), text
    assert words in text
    assert "Traceback" not in text
    assert not (bench.runs / "never").exists()


def test_a_run_cannot_be_gone_on_with_under_other_settings(forge, bench):
    forge("run-pipeline", "--pipeline", bench.compile(greeting), "--name", "first")
    code, text = forge("run-pipeline", "--resume", "first", "--seed", "3")
    assert code == 2 and "seed=3" in text


@dsl.container_component
def patient(out: Output[Artifact]):
    """Waits for SIGTERM, writes its checkpoint, and ends well on the next start."""
    return toy(
        "import signal\n"
        "half = pathlib.Path(os.environ['FORGE_CHECKPOINTS']) / 'half'; half.parent.mkdir(parents=True, exist_ok=True)\n"
        "progress = pathlib.Path(os.environ['FORGE_PROGRESS'])\n"
        "def stop(*_): half.touch(); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "line = {'time': time.time(), 'stage': 'waiting', 'step': 1, 'total': 4, 'metrics': {}, 'eta': 90}\n"
        "progress.write_text(json.dumps(line) + '\\n')\n"
        "while not half.exists(): time.sleep(.05)\n"
        "say('whole')"
    )


@dsl.pipeline
def waiting():
    patient()


def test_ctrl_c_stops_the_run_says_how_to_go_on_and_that_works(bench, forge):
    command = bench.command(waiting, "long")
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    events = bench.runs / "long" / "events.jsonl"
    while not (events.exists() and '"kind":"progress"' in events.read_text()):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    code, text = forge("status", "long")
    assert "long · running" in text and "waiting 1/4" in text and "1 min" in text
    code, text = forge("run-pipeline", "--resume", "long")
    assert code == 4 and str(process.pid) in text  # someone is at it
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 75
    assert f"go on with: forge run-pipeline --resume {bench.runs / 'long'}" in output
    assert RunFolder(bench.runs / "long").read().status == "interrupted"
    code, text = forge("run-pipeline", "--resume", "latest")
    assert code == 0, text
    assert bench.text("patient", "long") == "whole"


def test_the_status_of_a_run_whose_process_is_gone_says_interrupted(tmp_path):
    folder = RunFolder(tmp_path / "gone")
    folder.write(RunStatus("gone", "running", 100.0))
    folder.task("bitnet").write(TaskStatus("bitnet", "bitnet", "bitnet", status="running", started=100.0))
    state = read_state(folder)
    assert state.state == state.task("bitnet").state == "interrupted"


def test_doctor_finds_what_is_there_and_says_what_to_do_about_the_rest(forge, s3_uri, monkeypatch, tmp_path):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    code, text = forge("doctor", "--store", s3_uri)
    assert code == 0, text
    assert [line.split()[1] for line in text.splitlines() if not line.startswith(" ")] == [
        "torch", "memory", "disk", "store", "MLflow", "Kubeflow", "Kubernetes",
    ]  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    code, text = forge("doctor", "--store", "ftp://x", "--host", "http://127.0.0.1:9")
    assert code == 1
    found = {line.split()[1]: line.split()[0] for line in text.splitlines() if not line.startswith(" ")}
    assert found == {
        "torch": "ok", "memory": found["memory"], "disk": "ok", "store": "fail", "MLflow": "warn",
        "Kubeflow": "fail", "Kubernetes": "warn",
    }  # fmt: skip
    assert text.count("→") >= 4


def test_a_phase_is_run_by_hand_through_forge():
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "phase", "bitnett"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "did you mean bitnet" in done.stderr


def test_scripts_of_the_pipeline_are_the_same_commands(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = [sys.executable, str(ROOT / "pipelines" / "single_phase.py")]
    output = tmp_path / "one.yaml"
    command = [*script, "compile", "adas", "-o", str(output)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "agent-forge-adas" in output.read_text()


def test_a_folder_is_no_file_to_compile_into(forge, tmp_path):
    code, text = forge("compile", "--output", tmp_path)
    assert code == 2 and "this is a folder" in text and not list(tmp_path.parent.glob(".*.partial"))


def test_more_parents_than_can_be_written_out_are_refused_at_once(forge):
    code, text = forge("compile", "--parents", 100_000)
    assert code == 2 and "100,000 parents" in text
