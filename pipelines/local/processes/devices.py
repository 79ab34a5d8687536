"""The GPUs of this machine, shared out among the processes of a run: each process sees one, the least busy.

Without it every process would take the first GPU and leave the others idle.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The GPUs that processes may use: those that the environment names, else all that the driver lists."""
    if VISIBLE in environment:
        named = [name.strip() for name in environment[VISIBLE].split(",") if name.strip()]
        return tuple(itertools.takewhile(lambda name: name != "-1", named))  # CUDA stops at it, too
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()  # no driver, no GPU: phases compute on the CPU
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip())


class Devices:
    """A set of GPUs, and how many processes are on each."""

    def __init__(self, names: Sequence[str]) -> None:
        self.busy = Counter(dict.fromkeys(names, 0))

    @contextlib.contextmanager
    def least_busy(self) -> Iterator[dict[str, str]]:
        """The environment of a process that shall see the least busy GPU; empty where there is none to share."""
        if len(self.busy) < 2:
            yield {}
            return
        name = min(self.busy, key=lambda device: self.busy[device])
        self.busy[name] += 1
        try:
            yield {VISIBLE: name}
        finally:
            self.busy[name] -= 1
