"""One process of a pipeline: started in a group of its own, timed, measured, and stopped with all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from components.shared.runtime.errors import PhaseFailed

from .fork_server import ForkServer, ForkServerLost, module_to_fork
from .orphans import end_with_parent

TIMEOUT_GRACE = 20.0
"""Seconds between the SIGTERM of a timeout and its SIGKILL, for a checkpoint."""


@dataclass(frozen=True)
class ProcessSpec:
    """What to start, and for how long at most (seconds, 0 for any time). The output is appended to `log`."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    timeout: float = 0.0
    inherit: tuple[int, ...] = ()


@dataclass(frozen=True)
class ProcessResult:
    """How a process ended. The exit code of one killed by a signal is 128 + its number, as in a shell."""

    exit_code: int
    seconds: float
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    timed_out: bool = False


class ProcessPool:
    """Starts processes and keeps count of those that live.

    :param at_once: so many at the same time, at most.
    """

    def __init__(self, at_once: int) -> None:
        self._living: set[int] = set()
        self._ending: signal.Signals | None = None
        self._waiters = ThreadPoolExecutor(at_once, thread_name_prefix="wait4")
        self._fork_server = ForkServer()

    async def run(self, spec: ProcessSpec) -> ProcessResult:
        """Start a process, wait for its end, and end what it left running.

        :raises ForkServerLost: what forks phases has ended; the phase is ended too.
        :raises PhaseFailed: the system cannot start it.
        """
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        alive: list[int] = []
        expired: list[bool] = []
        timers: list[asyncio.TimerHandle] = []

        def begun(pid: int) -> None:
            alive.append(pid)
            self._living.add(pid)
            if spec.timeout:  # from its beginning: before, there is nobody to stop
                timers.append(loop.call_later(spec.timeout, expire))
            if self._ending is not None:  # asked to stop while this one was about to begin
                _signal(pid, self._ending)

        def end(number: signal.Signals) -> None:
            for pid in alive:
                _signal(pid, number)

        def expire() -> None:
            expired.append(True)
            end(signal.SIGTERM)
            timers.append(loop.call_later(TIMEOUT_GRACE, end, signal.SIGKILL))

        try:
            code, cpu_seconds, peak = await (
                self._forked if module_to_fork(spec.arguments) else self._started
            )(spec, begun)
        except ForkServerLost:
            if self._ending is None:
                raise
            code, cpu_seconds, peak = int(self._ending), 0.0, 0  # it was asked for
        finally:
            for timer in timers:
                timer.cancel()
            self._living.difference_update(alive)
            end(signal.SIGKILL)  # grandchildren that outlived it; itself, where its parent was lost
        exit_code = os.waitstatus_to_exitcode(code)
        return ProcessResult(
            exit_code=exit_code if exit_code >= 0 else 128 - exit_code,
            seconds=time.monotonic() - began,
            cpu_seconds=cpu_seconds,
            peak_memory_bytes=peak * (1 if sys.platform == "darwin" else 1024),
            timed_out=bool(expired),
        )

    async def _started(self, spec: ProcessSpec, begun: Callable[[int], None]) -> tuple[int, float, int]:
        """A process of its own: (wait status, CPU seconds, ru_maxrss)."""
        try:
            with spec.log.open("ab") as log:
                process = subprocess.Popen(
                    list(spec.arguments),
                    cwd=spec.folder,
                    env=dict(spec.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=spec.inherit,
                    preexec_fn=functools.partial(end_with_parent, os.getpid(), signal.SIGTERM),
                )
        except (OSError, ValueError) as error:
            # There is no such program, an argument has a character 0, or there is more text than a system takes.
            raise PhaseFailed(
                "the process cannot be started",
                where=f"{spec.arguments[0]!r:.200}",
                why=str(error),
                fix="install it, or run the pipeline where its image runs",
            ) from error
        begun(process.pid)
        wait = asyncio.get_running_loop().run_in_executor(self._waiters, os.wait4, process.pid, 0)
        _, code, usage = await wait
        process.returncode = os.waitstatus_to_exitcode(code)
        return code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss

    async def _forked(self, spec: ProcessSpec, begun: Callable[[int], None]) -> tuple[int, float, int]:
        """The same from the fork server, which has imported what phases import."""
        places = (str(spec.folder), str(spec.log))
        return await self._fork_server.run(spec.arguments, spec.environment, *places, spec.inherit, begun)

    def stop(self, grace: float) -> None:
        """Ask every living process to end (SIGTERM), and kill those that still live after `grace` seconds."""
        self._ending = signal.SIGTERM
        for pid in self._living:
            _signal(pid, signal.SIGTERM)
        if not self._fork_server.busy:  # it may be importing for seconds, for tasks that have not begun
            self._fork_server.kill()
        asyncio.get_running_loop().call_later(grace, self.kill)

    def kill(self) -> None:
        """SIGKILL to every living process, and to what would have to say that they have ended."""
        self._ending = signal.SIGKILL
        for pid in self._living:
            _signal(pid, signal.SIGKILL)
        self._fork_server.kill()

    async def close(self) -> None:
        """No more processes: the fork server is gone, and with it the last of ours that holds the run's lock."""
        await self._fork_server.close()
        self._waiters.shutdown(wait=False)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says so of a group of zombies
        os.killpg(group, number)
