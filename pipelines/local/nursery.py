"""A process that has imported torch and the models and forks tasks from itself: seconds of imports are spent once.

Started by `Launcher`; reads a line of JSON for each task from its standard input and writes a line when one begins and
when one ends: {"job", "pid"} and {"job", "pid", "status", "usage": [cpu seconds, peak memory in ru_maxrss units]}.
It ends when its standard input does. A task is the same as one that was started by itself: a process in a group of its
own with the environment, folder and log that it was given, which runs its module as `__main__`.

Forking is safe here because the nursery itself computes nothing: torch has started no threads when it forks.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import selectors
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

PRELOADED = ("components.shared.evaluation.suites", "components.shared.models.loading", "mlflow.tracking")
"""What most phases import. They are imported by name, and no earlier than here: a test of the pipeline needs no torch."""


def main() -> None:
    """Serve until standard input ends."""
    import importlib

    import components.shared.runtime  # noqa: F401 - sets how threads wait, before torch is there

    for name in PRELOADED:
        importlib.import_module(name)
    jobs: dict[int, int] = {}
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
            _reap(jobs)
        if 0 in ready:
            read = os.read(0, 1 << 20)
            if not read:
                return
            *lines, buffer = (buffer + read).split(b"\n")
            for line in lines:
                job = json.loads(line)
                jobs[_fork(job, close=(woken, wake))] = job["job"]


def _fork(job: Mapping[str, Any], close: tuple[int, ...]) -> int:
    """Start a task; its process id. The child never returns from here."""
    pid = os.fork()
    if pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the child may be through already
            os.setpgid(pid, pid)  # here as well as there: whoever hears of it may signal the group at once
        _say({"job": job["job"], "pid": pid})
        return pid
    code = 1
    try:
        code = _become(job, close)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _leave(code)


def _become(job: Mapping[str, Any], close: tuple[int, ...]) -> int:
    """In the child: put on the task's environment and run its module as a program."""
    os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    log = os.open(job["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(source, target)
    for descriptor in close:
        os.close(descriptor)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    module, *arguments = job["arguments"]
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


def _reap(jobs: dict[int, int]) -> None:
    while jobs:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        cost = [usage.ru_utime + usage.ru_stime, usage.ru_maxrss]
        _say({"job": jobs.pop(pid), "pid": pid, "status": status, "usage": cost})


def _say(message: Mapping[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
