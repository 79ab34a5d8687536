"""Phases as processes of their own that are there at once: forked from a process that has imported what they import.

The process is the runner's fork server (pipelines/local/processes/fork_server.py), one for each worker of a test session.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEADLINE = 300.0  # seconds after which a process hangs: many times what a slow and busy machine needs


class Forked:
    """A process of a phase, with what tests need of `subprocess.Popen`."""

    def __init__(self, module: str, arguments: Sequence[object], environment: Mapping[str, str]) -> None:
        self.server = _server()
        self.number = self.server.start([module, *map(str, arguments)], environment)

    @property
    def pid(self) -> int:
        return int(self.server.heard(self.number, "pid", DEADLINE)["pid"])

    @property
    def returncode(self) -> int | None:
        """As `poll` or `wait` found it."""
        said = self.server.said[self.number]
        return os.waitstatus_to_exitcode(said["status"]) if "status" in said else None

    def poll(self) -> int | None:
        self.server.listen(0)
        return self.returncode

    def wait(self, seconds: float = DEADLINE) -> int:
        self.server.heard(self.number, "status", seconds)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself since
                os.kill(self.pid, number)

    @property
    def output(self) -> str:
        """What it has printed, in order."""
        log = self.server.log(self.number)
        return log.read_text() if log.exists() else ""


class _Server:
    """The other side of a fork server: what it says, by the number of the process."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.local.processes.fork_server"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.logs = tempfile.TemporaryDirectory(prefix="forked-")
        self.said: dict[int, dict[str, Any]] = {}
        self.buffer = b""
        self.ready = selectors.DefaultSelector()
        assert self.process.stdout is not None
        self.ready.register(self.process.stdout, selectors.EVENT_READ)

    def log(self, number: int) -> Path:
        return Path(self.logs.name) / f"{number}.txt"

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
        number = len(self.said)
        self.said[number] = {}
        line = {
            "number": number, "arguments": arguments, "folder": str(ROOT), "log": str(self.log(number)),
            "environment": {**environment, "PYTHONPATH": str(ROOT)},
        }  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line).encode() + b"\n")
        self.process.stdin.flush()
        return number

    def listen(self, seconds: float) -> None:
        """Take in what is said; wait for it so long."""
        assert self.process.stdout is not None
        if self.ready.select(seconds):
            read = os.read(self.process.stdout.fileno(), 1 << 16)
            assert read, "the process that forks phases has ended"
            *lines, self.buffer = (self.buffer + read).split(b"\n")
            for line in lines:
                message = json.loads(line)
                self.said[message["number"]] |= message

    def heard(self, number: int, what: str, seconds: float) -> dict[str, Any]:
        """What is known of a process, as soon as it tells `what`."""
        deadline = time.monotonic() + seconds
        while what not in self.said[number]:
            assert time.monotonic() < deadline, f"nothing heard of {what} for {seconds:g} seconds"
            self.listen(1.0)
        return self.said[number]


@functools.cache
def _server() -> _Server:
    return _Server()
