"""A process that has imported torch and the models and forks tasks from itself: seconds of imports are spent once.

`ForkServer` is the runner's side. The other side is this module as a program: it reads a line of JSON for each task from
its standard input and writes one when a task begins and one when it ends: {"number", "pid"} and {"number", "pid",
"status", "usage": [cpu seconds, peak memory in ru_maxrss units]}. A forked task is the same as a started one: a process in
a group of its own with the environment, folder and log that it was given, which runs its module as `__main__`.

Nothing is left over: tasks end with the server, however it ends. When the runner is killed the server's standard input
ends; tasks then get the time to write their checkpoints, and the server ends behind them.

Forking is safe here because the server itself computes nothing: torch has started no threads when it forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import runpy
import selectors
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from components.shared.runtime.code import ROOT
from components.shared.runtime.errors import PhaseFailed

from .orphans import end_with_parent, outlive_parent

FAMILY = "components."
"""Modules that are forked: what the server has imported is theirs."""

FIRST_TO_GO = "500"
"""Where memory runs out, the kernel ends a task before anything that is not half as large as the machine: before the
runner, which tries the task again, and before other people's work."""

PRELOADED = ("components.shared.evaluation.suites", "components.shared.models.loading", "mlflow.tracking")
"""What most phases import. They are imported by name, and only in the server: a test of the pipeline needs no torch."""


ORPHAN_GRACE = 30.0
"""Seconds that tasks have for their checkpoints when the runner has been killed; a pod has as many."""

END_SECONDS = 5.0
"""So long a killed server is waited for: the run's lock is free when it is gone."""


class ForkServerLost(PhaseFailed):
    """The server has ended while a task of it was under way: killed, mostly because memory ran out."""


def module_to_fork(arguments: Sequence[str]) -> str:
    """The phase module that a command line runs with this interpreter; empty where it is something else."""
    if (
        sys.platform != "linux"
        or len(arguments) < 3
        or arguments[0] != sys.executable
        or arguments[1] != "-m"
    ):
        return ""
    return arguments[2] if arguments[2].startswith(FAMILY) else ""


class ForkServer:
    """Starts with the first task; ends with the runner. One that has died is started anew for the next task."""

    program: Sequence[str] = (sys.executable, "-m", __name__)

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._ends: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._begun: dict[int, Callable[[int], None]] = {}
        self._tasks = 0
        self._starting = asyncio.Lock()
        self._listener: asyncio.Task[None] | None = None

    async def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        log: str,
        inherit: tuple[int, ...],
        begun: Callable[[int], None],
    ) -> tuple[int, float, int]:
        """Run a task to its end: (wait status, CPU seconds, peak memory in units of ru_maxrss).

        :param begun: called with the process id as soon as it is known.
        :param inherit: descriptors that tasks keep open; those of the first task count.
        :raises ForkServerLost: the server itself ended.
        """
        async with self._starting:
            process = await self._running(environment, inherit)
            number = self._tasks = self._tasks + 1
            self._begun[number] = begun
            end = self._ends[number] = asyncio.get_running_loop().create_future()
        line = {
            "number": number,
            "arguments": list(arguments[2:]),
            "environment": dict(environment),
            "folder": folder,
            "log": log,
        }
        assert process.stdin is not None
        with contextlib.suppress(ConnectionError):  # the listener tells, with the reason
            process.stdin.write(json.dumps(line).encode() + b"\n")
            await process.stdin.drain()
        message = await end
        cpu, memory = message["usage"]
        return int(message["status"]), float(cpu), int(memory)

    @property
    def busy(self) -> bool:
        """Whether one of its tasks has begun; before, it may be importing for seconds."""
        return any(number not in self._begun for number in self._ends)

    def kill(self) -> None:
        """End it now, and with it every task of it, also one of which it has not told yet."""
        if self._process is not None:
            _kill(self._process)

    async def close(self) -> None:
        """No more tasks: the server is gone when this returns."""
        self.kill()
        if self._listener is not None:
            await asyncio.wait([self._listener], timeout=END_SECONDS)

    async def _running(
        self, environment: Mapping[str, str], inherit: tuple[int, ...]
    ) -> asyncio.subprocess.Process:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *self.program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                pass_fds=inherit,
            )
            self._listener = asyncio.create_task(self._listen(self._process))
        return self._process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            while (line := await process.stdout.readline()).endswith(b"\n"):  # else it was killed within it
                message = json.loads(line)
                if "status" in message:
                    end = self._ends.pop(message["number"])
                    if not end.done():
                        end.set_result(message)
                else:
                    self._begun.pop(message["number"])(message["pid"])
        finally:
            self._process = None
            lost, self._ends = self._ends, {}
            self._begun.clear()
            _kill(process)
            code = await process.wait()
            for end in lost.values():
                if not end.done():
                    end.set_exception(
                        ForkServerLost(
                            "the process that starts phases has ended",
                            why=_ending(code),
                            fix="go on with --resume",
                        )
                    )


def _kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL. `process.kill()` looks first whether it has ended, and takes its exit code from who waits for it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "it was killed (SIGKILL), most often because memory ran out"
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


# -- the other side


def serve() -> None:
    """Fork tasks until standard input ends."""
    import importlib

    end_with_parent(os.getppid())  # nothing is begun yet
    import components.shared.runtime  # noqa: F401 - sets how threads wait, before torch is there

    answers = os.dup(1)
    os.dup2(2, 1)  # what an import prints is no answer
    for name in PRELOADED:
        importlib.import_module(name)
    tasks: dict[int, int] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; who started us ends us
    waiting, buffer = selectors.DefaultSelector(), b""
    waiting.register(0, selectors.EVENT_READ)
    waiting.register(woken, selectors.EVENT_READ)
    outlive_parent()  # by so much as tasks need for their checkpoints
    while True:
        ready = {key.fd for key, _ in waiting.select()}
        if woken in ready:
            os.read(woken, 4096)
            _reap(tasks, answers)
        if 0 in ready:
            read = os.read(0, 1 << 20)
            if not read:
                _end_orphans(tasks)
                os._exit(0)  # what torch does when an interpreter ends takes seconds
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                request = json.loads(line)
                tasks[_fork(request, answers, close=(woken, wake, answers))] = request["number"]


def _fork(request: Mapping[str, Any], answers: int, close: tuple[int, ...]) -> int:
    """Start a task; its process id. The child never returns from here."""
    server = os.getpid()
    pid = os.fork()
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the child may be through already
            os.setpgid(pid, pid)  # here as well as there: whoever hears of it may signal the group at once
        _answer(answers, {"number": request["number"], "pid": pid})
        return pid
    code = 1
    try:
        end_with_parent(server)
        code = _become(request, close)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _leave(code)


def _become(request: Mapping[str, Any], close: tuple[int, ...]) -> int:
    """In the child: put on the task's environment and run its module as a program."""
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):  # a sandbox may forbid it, or have no such file
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(source, target)
    for descriptor in close:
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    module, *arguments = request["arguments"]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _leave(code: int) -> NoReturn:
    """End as an interpreter does that was asked to: threads joined, exit handlers run, output flushed."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_orphans(tasks: dict[int, int]) -> None:
    """The runner is gone: let the tasks write their checkpoints, and kill those that take too long, with all of theirs."""
    until = time.monotonic() + ORPHAN_GRACE
    groups = list(tasks)
    _signal(groups, signal.SIGTERM)
    while tasks and time.monotonic() < until:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        tasks.pop(pid, None)
        time.sleep(0.02)
    _signal(groups, signal.SIGKILL)


def _signal(groups: Sequence[int], number: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError):  # it has ended, with all that it started
            os.killpg(group, number)


def _reap(tasks: dict[int, int], answers: int) -> None:
    """Tell of every task that has ended."""
    while tasks:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        cost = [usage.ru_utime + usage.ru_stime, usage.ru_maxrss]
        _answer(answers, {"number": tasks.pop(pid), "pid": pid, "status": status, "usage": cost})


def _answer(answers: int, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the runner was killed: standard input says so next
        os.write(answers, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    serve()
