"""Processes of runs on this machine, known again for certain, so that no stranger is signalled.

A number alone is nobody: it is used again. With the start, the boot and the namespace of numbers it is one process.
"""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...runs.folder import RunFolder
from ...runs.lock import holders

PROC = Path("/proc")
STATE, STARTED = 0, 19
"""Where /proc/<pid>/stat has them, behind the name in brackets."""


def here() -> str:
    """This place, where a process number means something: the machine, its boot, the namespace of process numbers."""
    boot = _text(PROC / "sys/kernel/random/boot_id").strip()
    try:
        space = os.readlink(PROC / "self/ns/pid").strip("pid:[]")
    except OSError:
        space = ""
    return f"{platform.node()[:100]}/{boot}/{space}"


@dataclass(frozen=True)
class ProcessId:
    """A process that is found again.

    :param started: in ticks since the boot: another process of the same number has another.
    :param place: where it runs.
    """

    pid: int
    started: int
    place: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @property
    def alive(self) -> bool:
        """Whether it is there; False for one of another place, and for one that has ended and was not waited for."""
        return self.place == here() and started(self.pid) == self.started

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal. False where it is not there any more."""
        try:
            descriptor = os.pidfd_open(self.pid)  # from here on the number is no other process
        except OSError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


def identified(pid: int) -> ProcessId | None:
    """The process of this number here, None where there is none."""
    ticks = started(pid)
    return None if ticks is None else ProcessId(pid, ticks, here())


def process_of(recorded: Mapping[str, Any] | None) -> ProcessId | None:
    """The process that a run's row tells of; None where it tells of none."""
    if not recorded or not recorded.get("pid"):
        return None
    return ProcessId(int(recorded["pid"]), int(recorded["started"]), str(recorded["place"]))


def started(pid: int) -> int | None:
    """When a process began, in ticks since the boot; None where there is none, or only what is left of one."""
    fields = _text(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return int(fields[STARTED]) if fields and fields[STATE] not in ("Z", "X") else None


@dataclass(frozen=True)
class Living:
    """A process of a run.

    :param words: its command line, for a person.
    """

    process: ProcessId
    words: str
    memory_bytes: int


def of_run(folder: RunFolder) -> Iterator[Living]:
    """The processes of a run: its runner, the server that forks phases, and phases.

    They have the run's lock open, and were told by their environment that they are of it. Whoever only looks whether the
    lock is held has it open too.
    """
    mark = f"FORGE_PIPELINE_RUN={folder.name}\0"
    place = f"={folder.path}{os.sep}"
    runner = folder.read().process if folder.exists() else 0
    for pid in holders(folder.path / "run.lock"):
        environment = _text(PROC / str(pid) / "environ")
        if pid == os.getpid() or not (pid == runner or (mark in environment + "\0" and place in environment)):
            continue
        process = identified(pid)
        if process is not None:
            words = _text(PROC / str(pid) / "cmdline").replace("\0", " ").strip()
            yield Living(process, f"process {pid} ({words[:120]})", _resident(pid))


def _resident(pid: int) -> int:
    fields = _text(PROC / str(pid) / "statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # it has ended, or is somebody else's
        return ""
