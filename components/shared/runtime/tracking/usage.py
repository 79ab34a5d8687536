"""What a phase's process uses while it works: looked at every few seconds, and logged beside what the phase measures.

    system/cpu_utilization_percentage      of one core: 200 is two of them
    system/memory_usage_megabytes          resident, of this process
    system/disk_usage_percentage           of the file system that it works in
    system/gpu_0_memory_usage_megabytes    and `gpu_0_utilization_percentage`: of each GPU that this process sees

The names are those that MLflow's own system metrics have, so that its page shows them where it shows those. MLflow's need a
library more, a server that answers at each look, and tell of the whole machine, which other tasks share.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

EVERY = 10.0
"""Seconds between two looks: a look takes less than a millisecond."""

MEGABYTE = 1e6
CPU = "system/cpu_utilization_percentage"


class Usage:
    """Use as a context manager around the work.

    :param log: takes the figures of a look, and the seconds since the beginning as their step.
    :param place: a folder of the file system that is worked in.
    """

    def __init__(
        self, log: Callable[[Mapping[str, float], int], None], place: Path, *, every: float = EVERY
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        self._log = log
        self._place = place
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="usage", daemon=True)

    def __enter__(self) -> Usage:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        began = before = time.monotonic()
        spent = _cpu_seconds()
        while not self._ended.wait(self._every):
            now, total = time.monotonic(), _cpu_seconds()
            found = {CPU: 100 * (total - spent) / (now - before), **look(self._place)}
            step = round(now - began)
            self.lines.append({"time": time.time(), "run": "", "step": step, "metrics": found})
            self._log(found, step)
            before, spent = now, total


def look(place: Path) -> dict[str, float]:
    """What is in use now, but for the processor's time."""
    disk = shutil.disk_usage(place)
    found = {
        "system/memory_usage_megabytes": resident_bytes() / MEGABYTE,
        "system/disk_usage_percentage": 100 * disk.used / disk.total,
    }
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found[f"system/gpu_{number}_memory_usage_megabytes"] = torch.cuda.memory_reserved(number) / MEGABYTE
        try:
            found[f"system/gpu_{number}_utilization_percentage"] = float(torch.cuda.utilization(number))
        except (ModuleNotFoundError, RuntimeError):
            continue  # the driver's library is not installed, or does not tell: it is left out, not said to be 0
    return found


def resident_bytes() -> int:
    """Memory of this process now; where the system does not say, the most that it has had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
