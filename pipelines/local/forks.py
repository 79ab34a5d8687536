"""The runner's side of the nursery: hand it tasks, hear how they ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from components.shared.runtime.errors import PhaseFailed

from .cache_key import ROOT

FAMILY = "components."
"""Modules that the nursery forks: what it has imported is theirs."""


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


class Nursery:
    """Starts on the first task; ends with the runner."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._ends: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._begun: dict[int, Callable[[int], None]] = {}
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
        :raises PhaseFailed: the nursery itself ended.
        """
        async with self._starting:
            if self._process is None:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "pipelines.local.nursery",
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
                    cwd=ROOT,
                    pass_fds=inherit,
                )
                self._listener = asyncio.create_task(self._listen(self._process))
        number = len(self._begun)
        self._begun[number] = begun
        end = self._ends[number] = asyncio.get_running_loop().create_future()
        line = {
            "job": number,
            "arguments": list(arguments[2:]),
            "environment": dict(environment),
            "folder": folder,
            "log": log,
        }
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # the listener tells, with the reason
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            await self._process.stdin.drain()
        message = await end
        cpu, memory = message["usage"]
        return int(message["status"]), float(cpu), int(memory)

    def end(self) -> None:
        """No more tasks: closes the nursery's input, at which it ends."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            message = json.loads(line)
            if "status" in message:
                self._ends.pop(message["job"]).set_result(message)
            else:
                self._begun[message["job"]](message["pid"])
        for end in self._ends.values():
            end.set_exception(
                PhaseFailed("the process that starts phases has ended", fix="run again with --resume")
            )
