"""A process that has imported torch and the models and forks tasks from itself: seconds of imports are spent once.

`ForkServer` is the runner's side. The other side is this module as a program: it reads a line of JSON for each task from
its standard input and writes one when a task begins and one when it ends: {"number", "pid"} and {"number", "pid",
"status", "usage": [cpu seconds, peak memory in ru_maxrss units]}. It ends when its standard input does. A forked task is
the same as a started one: a process in a group of its own with the environment, folder and log that it was given, which
runs its module as `__main__`.

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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from components.shared.runtime.code import ROOT
from components.shared.runtime.errors import PhaseFailed

FAMILY = "components."
"""Modules that are forked: what the server has imported is theirs."""

FIRST_TO_GO = "500"
"""Where memory runs out, the kernel ends a task before anything that is not half as large as the machine: before the
runner, which tries the task again, and before other people's work."""

PRELOADED = ("components.shared.evaluation.suites", "components.shared.models.loading", "mlflow.tracking")
"""What most phases import. They are imported by name, and only in the server: a test of the pipeline needs no torch."""


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

    def end(self) -> None:
        """No more tasks: closes the server's input, at which it ends."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _running(
        self, environment: Mapping[str, str], inherit: tuple[int, ...]
    ) -> asyncio.subprocess.Process:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
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
            while line := await process.stdout.readline():
                message = json.loads(line)
                if "status" in message:
                    self._begun.pop(message["number"], None)
                    self._ends.pop(message["number"]).set_result(message)
                else:
                    self._begun[message["number"]](message["pid"])
        finally:
            self._process = None
            lost, self._ends = self._ends, {}
            self._begun.clear()
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            code = await process.wait()
            for end in lost.values():
                if not end.done():
                    end.set_exception(
                        ForkServerLost(
                            "the process that starts phases has ended",
                            why=f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}",
                            fix="run again with --resume",
                        )
                    )


# -- the other side


def serve() -> None:
    """Fork tasks until standard input ends."""
    import importlib

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
    while True:
        ready = {key.fd for key, _ in waiting.select()}
        if woken in ready:
            os.read(woken, 4096)
            _reap(tasks, answers)
        if 0 in ready:
            read = os.read(0, 1 << 20)
            if not read:
                return
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                request = json.loads(line)
                tasks[_fork(request, answers, close=(woken, wake, answers))] = request["number"]


def _fork(request: Mapping[str, Any], answers: int, close: tuple[int, ...]) -> int:
    """Start a task; its process id. The child never returns from here."""
    pid = os.fork()
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the child may be through already
            os.setpgid(pid, pid)  # here as well as there: whoever hears of it may signal the group at once
        _answer(answers, {"number": request["number"], "pid": pid})
        return pid
    code = 1
    try:
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
    with contextlib.suppress(PermissionError):  # a sandbox may forbid it
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
    os.write(answers, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    serve()
