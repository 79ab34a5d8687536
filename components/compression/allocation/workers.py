"""Processes that encode and decode (worker.py), as many as there are cores to use.

Threads would wait for one another: most of an encoder is many small numpy calls. The processes are started afresh, not
forked, and import no torch; each computes on one thread, so that results do not depend on how many there are.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from components.shared.runtime.errors import PhaseFailed

from ..codecs.registry import extra_folders

Job = tuple[Any, dict[str, Any]]
"""What the one who asks knows it by, and what worker.py is told or has answered."""

ROOT = Path(__file__).parents[3]
ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
}
HEARTBEAT = 0.5  # seconds


class Workers:
    """`count` processes. They are started at once, so that they are ready when the first work is."""

    def __init__(self, count: int) -> None:
        paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker", *extra_folders()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": paths},
            )
            for _ in range(count)
        ]

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Jobs under way are given up."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            with contextlib.suppress(BrokenPipeError), process:
                process.wait()

    def do(self, jobs: Iterable[Job], heartbeat: Callable[[], None]) -> Iterator[Job]:
        """Replies to jobs as they are done, in any order.

        :param heartbeat: called every HEARTBEAT seconds at least; it may raise.
        :raises PhaseFailed: a job failed, or its process ended.
        """
        waiting = iter(jobs)
        busy: dict[subprocess.Popen[str], Any] = {}

        def hand_out(process: subprocess.Popen[str]) -> None:
            for key, job in waiting:
                busy[process] = key
                assert process.stdin is not None
                try:
                    print(json.dumps(job), file=process.stdin, flush=True)
                except BrokenPipeError:
                    raise ended(process) from None
                return

        with selectors.DefaultSelector() as replies:
            for process in self.processes:
                assert process.stdout is not None
                replies.register(process.stdout, selectors.EVENT_READ, process)
                hand_out(process)
            while busy:
                heartbeat()
                for ready, _ in replies.select(HEARTBEAT):
                    process = ready.data
                    key, reply = busy.pop(process), answer(process)
                    hand_out(process)
                    yield key, reply


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The reply that a process has written.

    :raises PhaseFailed: it says that the job failed, or it has ended.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ended(process)
    reply: dict[str, Any] = json.loads(line)
    if "failed" in reply:
        raise PhaseFailed("a tensor cannot be encoded or decoded", why=reply["failed"])
    return reply


def ended(process: subprocess.Popen[str]) -> PhaseFailed:
    """What to say of a process that should be there. One that was killed was in somebody's way: that may pass."""
    code = process.wait()
    killed = code < 0
    return PhaseFailed(
        "a process that encodes was killed" if killed else "a process that encodes has ended",
        why=f"by signal {-code}" if killed else f"exit code {code}",
        fix="give more memory or lower compression.threads: each of them needs some hundred megabytes",
        transient=killed,
    )
