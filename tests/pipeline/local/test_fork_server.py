"""Phases are forked from a process that has imported torch; each is still a process like any other."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from pipelines.local.processes.fork_server import module_to_fork
from pipelines.local.processes.pool import ProcessPool, ProcessResult, ProcessSpec
from tests.contract import killing


def run(*jobs: ProcessSpec, stop_after: float = 0.0) -> list[ProcessResult]:
    async def all_of_them() -> list[ProcessResult]:
        pool = ProcessPool(len(jobs))
        if stop_after:
            asyncio.get_running_loop().call_later(stop_after, pool.stop, 5.0)
        return list(await asyncio.gather(*(pool.run(job) for job in jobs)))

    return asyncio.run(all_of_them())


def job(
    folder: Path, *arguments: str, name: str = "a", timeout: float = 0.0, **environment: str
) -> ProcessSpec:
    command = [sys.executable, "-m", "components.cognate", *arguments]
    return ProcessSpec(command, os.environ | environment, folder, folder / f"{name}.log", timeout)


def test_only_phases_of_this_interpreter_are_forked():
    assert module_to_fork([sys.executable, "-m", "components.bitnet", "--help"]) == "components.bitnet"
    assert not module_to_fork([sys.executable, "-c", "components.bitnet"])
    assert not module_to_fork(["python2", "-m", "components.bitnet"])
    assert not module_to_fork([sys.executable, "-m", "pipelines.cli"])


def test_a_forked_phase_speaks_to_its_own_log_and_ends_with_its_own_code(tmp_path):
    helped, refused = run(
        job(tmp_path, "--help", name="help"),
        job(tmp_path, "--output", str(tmp_path / "out"), "cognate.no_such_key=1", name="refused"),
    )
    assert helped.exit_code == 0 and "cognate" in (tmp_path / "help.log").read_text()
    assert refused.exit_code == 2 and "no_such_key" in (tmp_path / "refused.log").read_text()
    assert helped.peak_memory_bytes > 50e6 and helped.seconds > 0 and refused.seconds > 0


def test_a_forked_phase_publishes_what_a_started_one_does(tmp_path):
    arguments = ["--profile", "micro", "--step", "trunk"]
    quiet = killing.quiet(tmp_path)
    forked = job(tmp_path, "--output", str(tmp_path / "forked"), *arguments, name="forked", **quiet)
    other = job(tmp_path, "--output", str(tmp_path / "started"), *arguments, name="started", **quiet)
    started = ProcessSpec(["/usr/bin/env", *other.arguments], other.environment, other.folder, other.log)
    outcomes = run(forked, started)
    assert [o.exit_code for o in outcomes] == [0, 0], (tmp_path / "forked.log").read_text()
    digests = [json.loads((tmp_path / n / "forge.json").read_text())["digest"] for n in ("forked", "started")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("how", ["timeout", "stop"])
def test_a_forked_phase_can_be_stopped_and_says_so_by_its_exit_code(tmp_path, how):
    endless = [
        "--profile",
        "micro",
        "--step",
        "trunk",
        "cognate.trunk.steps=1000000",
        "cognate.window=1000000",
    ]
    one = job(tmp_path, "--output", str(tmp_path / "out"), *endless, timeout=0.5 if how == "timeout" else 0.0)
    # both before the fork server can have imported torch: a time limit counts from the phase's own beginning
    (outcome,) = run(one, stop_after=1.0 if how == "stop" else 0.0)
    assert outcome.exit_code in (75, 128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert outcome.timed_out == (how == "timeout")
