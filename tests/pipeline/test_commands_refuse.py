"""What nobody can have meant on a command line is a line on stderr and an exit code, never a trace."""

import os
import subprocess
import sys

import pytest
from typer.main import get_command

from components.shared.runtime.request.command_line import parse
from pipelines import cli
from pipelines.cli.overridden import Overridden
from pipelines.local.plan import RunRequest
from pipelines.local.prepare import prepare
from pipelines.runs.folder import RunFolder
from tests.pipeline.local.toy_pipelines import write

LONG = "n" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", LONG],
        ["--name", "é" * 150],
        ["--name", ".."],
        ["--name", "/abs"],
        ["--name", "../x"],
        ["--name", "a/b"],
        ["--name", "a\n"],
        ["--name", "cache"],
        ["--name", "latest"],
        ["--name", "mlflow.db"],
        ["--name", "\udcff"],
        ["--slots", "-1"],
        ["--rounds", "1000000"],
        ["--rounds", "-1"],
        ["--workers", "0"],
        ["--resume", LONG],
        ["--resume", "/proc/x"],
        ["--pipeline", "/dev/null"],
        ["--pipeline", "/"],
        ["--config", "/"],
        ["--set", "seed=1e400"],
        ["--set", "seed=" + "9" * 5000],
        ["--set", "cpu_tolerations=" + "[" * 100_000],
        ["--seed", "-1"],
        ["bitnet"],
        ["bitnet.steps=x"],
        ["-O", "bitnet.steps=x"],
    ],
    ids=lambda words: " ".join(words)[:24],
)
def test_a_run_that_cannot_be_is_refused(forge, arguments):
    code, text = forge("run-pipeline", "--dry-run", *arguments)
    assert code in (1, 2, 5, 6, 8) and "rror: " in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["run-pipeline", "--runs", "/proc/x", "--name", "a"],
        ["run-pipeline", "--store", "/proc/x", "--name", "a"],
        ["compile", "--output", "/proc/x"],
        ["status", LONG],
        ["logs", LONG],
        ["events", LONG],
        ["report", LONG],
        ["cancel", LONG],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_a_place_that_the_system_refuses_is_named(forge, arguments):
    code, text = forge(*arguments)
    assert code and "error: " in text and "What to do: " in text


def commands(group):
    for command in group.commands.values():
        yield from commands(command) if hasattr(command, "commands") else [command]


def test_every_command_with_overrides_takes_them_without_the_option_too(forge):
    taking = [
        command
        for command in commands(get_command(cli.app))
        if any("--override" in option.opts for option in command.params)
    ]
    assert len(taking) >= 6 and all(isinstance(command, Overridden) for command in taking)
    for override in (["-O", "bitnet.steps=x"], ["bitnet.steps=x"]):
        code, text = forge("validate", *override)
        assert code == 2 and 'bitnet.steps = "x"' in text


def test_a_phase_by_hand_takes_overrides_with_the_option_too():
    for override in (["-O", "bitnet.steps=3"], ["--override", "bitnet.steps=3"], ["bitnet.steps=3"]):
        assert parse("bitnet", "", ["--output", "x", *override]).overrides == ["bitnet.steps=3"]


def test_a_run_goes_on_without_the_cache_when_it_was_started_so(bench):
    @pytest.importorskip("kfp").dsl.pipeline(name="one")
    def one():
        write(text="x")

    path = bench.compile(one)
    plan = prepare(RunRequest(runs=bench.runs, name="run", pipeline=path, cache=False))
    folder = RunFolder(bench.runs / "run")
    folder.path.mkdir(parents=True)
    folder.pipeline.write_text(plan.pipeline.text)
    folder.write(plan.status)
    assert not prepare(RunRequest(runs=bench.runs, resume="run")).options.cache


def test_the_third_request_to_stop_ends_a_runner_whose_store_does_not_answer(tmp_path):
    code = (
        "import asyncio, os, signal, threading, types\n"
        "from pipelines.cli.runs import run_pipeline as command\n"
        "from pipelines.local import execute\n"
        "class Stuck:\n"
        "    def stop(self): print('asked', flush=True)\n"
        "    async def wait(self):\n"
        "        print('begun', flush=True); await asyncio.to_thread(threading.Event().wait)\n"
        "execute.start = lambda plan, listeners: Stuck()\n"
        "asyncio.run(command._run(types.SimpleNamespace(), None, None))\n"
    )
    runner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
    assert runner.stdout is not None
    for _ in range(3):
        assert runner.stdout.readline()
        runner.terminate()
    assert runner.wait(20) == 75
