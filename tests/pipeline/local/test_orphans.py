"""No process outlives the one that started it, so that a run can be gone on with as soon as its runner is gone."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from components.shared.runtime.code import ROOT
from components.shared.runtime.errors import LostRace
from pipelines.local.processes import fork_server
from pipelines.local.processes.fork_server import ForkServer, ForkServerLost
from pipelines.local.processes.pool import ProcessPool, ProcessSpec
from pipelines.runs import lock
from pipelines.runs.folder import RunFolder

SERVER = "from pipelines.local.processes import fork_server as f; f.PRELOADED = (); f.serve()"

PHASE = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path("checkpoint").touch(), sys.exit(75)))
pathlib.Path("begun").touch()
time.sleep(60)
"""


@pytest.fixture
def phase(tmp_path, monkeypatch):
    """How a phase is started that works for a minute and writes a checkpoint; the server that forks it imports nothing."""
    monkeypatch.setattr(fork_server, "FAMILY", "long_phase")
    monkeypatch.setattr(ForkServer, "program", (sys.executable, "-c", SERVER))
    (tmp_path / "long_phase.py").write_text(PHASE)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return ProcessSpec([sys.executable, "-m", "long_phase"], environment, tmp_path, tmp_path / "log.txt")


def gone(pid: int) -> bool:
    try:
        psutil.wait_procs([psutil.Process(pid)], timeout=20)
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def server(folder: Path) -> subprocess.Popen[bytes]:
    """The other side of the fork server, without a runner."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); {SERVER}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )


def forked(process: subprocess.Popen[bytes], spec: ProcessSpec) -> int:
    """Have the server fork the phase; its process id, once it is at work."""
    request = {
        "number": 1, "arguments": list(spec.arguments[2:]), "environment": dict(spec.environment),
        "folder": str(spec.folder), "log": str(spec.log),
    }  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    pid = int(json.loads(process.stdout.readline())["pid"])
    while not (spec.folder / "begun").exists():
        assert not select.select([process.stdout], [], [], 0.01)[0], spec.log.read_text()
    return pid


def test_phases_end_with_a_server_that_is_killed_also_those_of_which_nobody_knows(phase, tmp_path):
    process = server(tmp_path)
    pid = forked(process, phase)
    process.kill()
    process.wait()
    assert gone(pid) and not (tmp_path / "checkpoint").exists()


def test_when_the_runner_is_killed_phases_write_a_checkpoint_and_nothing_is_left(phase, tmp_path):
    process = server(tmp_path)
    pid = forked(process, phase)
    assert process.stdin is not None
    process.stdin.close()  # what the death of the runner is for the server
    assert process.wait(20) == 0 and gone(pid) and (tmp_path / "checkpoint").exists()


def test_what_a_killed_runner_had_started_itself_ends_with_it(tmp_path):
    code = (
        "import asyncio, os, pathlib; from pipelines.local.processes.pool import ProcessPool, ProcessSpec\n"
        f"spec = ProcessSpec(['sleep', '60'], os.environ, pathlib.Path('.'), pathlib.Path({str(tmp_path / 'log')!r}))\n"
        "async def work():\n"
        "    pool = ProcessPool(1); running = asyncio.create_task(pool.run(spec))\n"
        "    while not pool._living: await asyncio.sleep(.01)\n"
        "    print(*pool._living, flush=True); await running\n"
        "asyncio.run(work())"
    )
    runner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert runner.stdout is not None
    pid = int(runner.stdout.readline())
    runner.kill()
    runner.wait()
    assert gone(pid)


def test_the_death_of_the_server_is_the_end_of_its_phases_and_the_next_one_gets_another(phase, tmp_path):
    async def whole() -> tuple[int, int]:
        pool = ProcessPool(2)
        running = asyncio.create_task(pool.run(phase))
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.01)
        [pid] = pool._living
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        with pytest.raises(ForkServerLost, match="memory ran out"):
            await asyncio.wait_for(running, 20)
        (tmp_path / "begun").unlink()
        again = asyncio.create_task(pool.run(phase))
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.01)
        pool.stop(10)
        ended = await asyncio.wait_for(again, 20)
        await pool.close()
        return pid, ended.exit_code

    pid, code = asyncio.run(whole())
    assert gone(pid) and code == 75


def test_a_server_that_does_not_answer_is_no_reason_to_wait(phase, tmp_path):
    """It is stopped (SIGSTOP), as one that waits for a disk is: the second request to end is the last."""

    async def whole() -> int:
        pool = ProcessPool(1)
        running = asyncio.create_task(pool.run(phase))
        while not (tmp_path / "begun").exists():
            await asyncio.sleep(0.01)
        [pid] = pool._living
        os.kill(psutil.Process(pid).ppid(), signal.SIGSTOP)
        pool.stop(60)
        pool.kill()
        ended = await asyncio.wait_for(running, 20)
        await pool.close()
        return ended.exit_code

    assert asyncio.run(whole()) == 128 + signal.SIGKILL


def test_a_run_that_is_stopped_while_the_server_imports_does_not_wait_for_it(phase, monkeypatch):
    monkeypatch.setattr(ForkServer, "program", (sys.executable, "-c", "import time; time.sleep(60)"))

    async def whole() -> int:
        pool = ProcessPool(1)
        running = asyncio.create_task(pool.run(phase))
        while pool._fork_server._process is None:
            await asyncio.sleep(0.01)
        pool.stop(60)
        return (await asyncio.wait_for(running, 20)).exit_code

    assert asyncio.run(whole()) == 128 + signal.SIGTERM


def test_the_run_is_free_when_its_runner_has_ended(phase, tmp_path):
    folder = RunFolder(tmp_path / "run")

    async def whole() -> None:
        with folder.lock() as held:
            pool = ProcessPool(1)
            spec = ProcessSpec(**{**phase.__dict__, "inherit": (held.fileno(),)})
            running = asyncio.create_task(pool.run(spec))
            while not (tmp_path / "begun").exists():
                await asyncio.sleep(0.01)
            pool.stop(10)
            await running
            await pool.close()

    asyncio.run(whole())
    assert not folder.active()


HOLDER = (
    "import subprocess, sys, pathlib; from pipelines.runs.folder import RunFolder\n"
    "lock = RunFolder(pathlib.Path(sys.argv[1])).lock()\n"
    "subprocess.Popen(['sleep', sys.argv[2]], pass_fds=[lock.fileno()], start_new_session=True)\n"
    "print('started', flush=True)\n"
    "import time; time.sleep(30)"
)


@pytest.fixture
def killed(tmp_path):
    """A run whose runner was killed, and whose phase goes on for so many seconds; the runner's id and the phase."""

    def made(seconds: float) -> tuple[RunFolder, int, psutil.Process]:
        words = [sys.executable, "-c", HOLDER, str(tmp_path / "run"), str(seconds)]
        runner = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert runner.stdout is not None and runner.stdout.readline() == "started\n"
        [phase] = psutil.Process(runner.pid).children()
        runner.kill()
        runner.wait()
        return RunFolder(tmp_path / "run"), runner.pid, phase

    return made


def test_whoever_goes_on_with_a_run_waits_for_what_its_killed_runner_has_left(killed):
    folder, _, phase = killed(0.7)
    with folder.lock():
        assert gone(phase.pid) and folder.active()


def test_a_phase_that_does_not_end_keeps_its_run_and_is_named(killed, monkeypatch):
    monkeypatch.setattr(lock, "ORPHAN_SECONDS", 0.1)
    folder, runner, phase = killed(30)
    with pytest.raises(
        LostRace, match=f"by {phase.pid}, which process {runner} has left behind.*kill {phase.pid}"
    ):
        folder.lock()
    phase.kill()
    psutil.wait_procs([phase], timeout=10)
    assert not folder.active()


def test_a_signal_goes_to_nobody_but_who_has_the_runs_lock(tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.lock():
        for process, asked in ((os.getpid(), os.getpid()), (-1, 0), (1, 0)):
            (folder.path / "run.json").write_text(json.dumps({"process": process}))
            assert folder.runner() == asked
