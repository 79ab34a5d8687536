"""One process of a pipeline: started in a group of its own, timed, measured, and stopped with all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_GRACE = 20.0
"""Seconds between the SIGTERM of a timeout and its SIGKILL, for a checkpoint."""


@dataclass(frozen=True)
class Job:
    """What to start, and for how long at most (seconds, 0 for any time). The output is appended to `log`."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    timeout: float = 0.0
    inherit: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a process ended. The exit code of one killed by a signal is 128 + its number, as in a shell."""

    exit_code: int
    seconds: float
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    timed_out: bool = False


class Launcher:
    """Starts processes and keeps count of those that live."""

    def __init__(self, at_once: int) -> None:
        self._living: set[int] = set()
        self._waiters = ThreadPoolExecutor(at_once, thread_name_prefix="wait4")

    async def run(self, job: Job) -> Outcome:
        """Start `job`, wait for its end, and end what it left running."""
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                list(job.arguments),
                cwd=job.folder,
                env=dict(job.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=job.inherit,
            )
        self._living.add(process.pid)
        expired: list[bool] = []

        def expire() -> None:
            expired.append(True)
            _signal(process.pid, signal.SIGTERM)
            timers.append(loop.call_later(TIMEOUT_GRACE, _signal, process.pid, signal.SIGKILL))

        timers = [loop.call_later(job.timeout, expire)] if job.timeout else []
        try:
            _, code, usage = await loop.run_in_executor(self._waiters, os.wait4, process.pid, 0)
        finally:
            for timer in timers:
                timer.cancel()
            self._living.discard(process.pid)
        _signal(process.pid, signal.SIGKILL)  # grandchildren that outlived it
        process.returncode = os.waitstatus_to_exitcode(code)
        unit = 1 if sys.platform == "darwin" else 1024
        return Outcome(
            exit_code=process.returncode if process.returncode >= 0 else 128 - process.returncode,
            seconds=time.monotonic() - began,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_memory_bytes=usage.ru_maxrss * unit,
            timed_out=bool(expired),
        )

    def stop(self, grace: float) -> None:
        """Ask every living process to end (SIGTERM), and kill those that still live after `grace` seconds."""
        for pid in self._living:
            _signal(pid, signal.SIGTERM)
        asyncio.get_running_loop().call_later(grace, self.kill)

    def kill(self) -> None:
        """SIGKILL to every living process."""
        for pid in self._living:
            _signal(pid, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says so of a group of zombies
        os.killpg(group, number)
