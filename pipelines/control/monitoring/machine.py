"""How full and how busy this machine is: memory, processor, the disk of the runs, GPUs."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from components.shared.runtime import machine

STAT = Path("/proc/stat")
GPU_SECONDS = 5.0
GPU_QUERY = "index,utilization.gpu,memory.used,memory.total"


@dataclass(frozen=True)
class Gpu:
    """One, as its driver sees it: shares from 0 to 1."""

    index: str
    usage: float
    memory_usage: float


@dataclass(frozen=True)
class Machine:
    """Shares from 0 to 1.

    :param memory_usage: of the memory that processes here can have at most, by the tightest control group.
    :param cpu_usage: of all cores of the machine, since the last look.
    :param disk_usage: of the file system of the runs, as those see it who are not root.
    """

    memory_usage: float
    memory_limit: int
    cpu_usage: float
    disk_usage: float
    disk_free: int
    gpus: tuple[Gpu, ...] = ()


class Watch:
    """Looks at it, each time since the last.

    :param runs: the folder whose disk counts.
    """

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._ticks = _ticks()

    def look(self) -> Machine:
        """How it is now. It asks programs: not for the event loop."""
        before, self._ticks = self._ticks, _ticks()
        memory = machine.memory()
        folders = (self._runs, *self._runs.absolute().parents)
        disk = shutil.disk_usage(next(folder for folder in folders if folder.exists()))
        return Machine(
            1.0 - memory.free / memory.limit,
            memory.limit,
            _busy(before, self._ticks),
            disk.used / max(1, disk.used + disk.free),
            disk.free,
            gpus(),
        )


def gpus() -> tuple[Gpu, ...]:
    """Those of NVIDIA; none where its program is not there or has nothing to say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, f"--query-gpu={GPU_QUERY}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=GPU_SECONDS, check=False
        ).stdout
    except subprocess.TimeoutExpired:
        return ()
    found = []
    for line in said.splitlines():
        with contextlib.suppress(ValueError, ZeroDivisionError):  # "[N/A]" of a GPU that is cut up
            index, usage, used, total = (part.strip() for part in line.split(","))
            found.append(Gpu(index, float(usage) / 100.0, float(used) / float(total)))
    return tuple(found)


def _ticks() -> tuple[int, int]:
    """(idle or waiting for a disk, all) hundredths of a second of all cores; zeros where there is no /proc."""
    try:
        first, *_ = STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0, 0
    user, nice, system, idle, waiting, *others = map(int, first.split()[1:9])
    return idle + waiting, user + nice + system + idle + waiting + sum(others)


def _busy(before: tuple[int, int], after: tuple[int, int]) -> float:
    passed = after[1] - before[1]
    return 1.0 - (after[0] - before[0]) / passed if passed > 0 else 0.0
