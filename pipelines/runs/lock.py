"""The lock of a run: the process that runs it holds it, and so does every process that it has started."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from components.shared.runtime.errors import LostRace, StoreError

LOOK_SECONDS = 0.5
"""So long somebody may hold it who only looks whether it is held."""

ORPHAN_SECONDS = 40.0
"""So long phases whose runner was killed may be at their last checkpoints: `fork_server.ORPHAN_GRACE` and some more."""


def lock(path: Path) -> IO[str]:
    """Hold the lock for this process and its children: while one of them lives, nobody else can have it.

    What a runner that was killed has left is waited for.

    :raises LostRace: someone has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise StoreError("the lock of a run is no file", where=str(path), fix="remove it")
    file = path.open("a+")
    began = time.monotonic()
    while not _flock(file, fcntl.LOCK_EX):
        file.seek(0)
        owner = file.read().strip()
        if time.monotonic() - began > (LOOK_SECONDS if _lives(owner) else ORPHAN_SECONDS):
            file.close()
            raise _taken(path, owner)
        time.sleep(0.05)
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def held(path: Path) -> bool:
    """Whether a process has it."""
    if not path.is_file():  # of a pipe nobody can hold it
        return False
    with path.open() as file:
        return not _flock(file, fcntl.LOCK_SH)


def holders(path: Path) -> list[int]:
    """The processes that have the file open, as far as /proc tells: not of other users, nor where there is no /proc."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.path.realpath(link) == str(path.resolve()) for link in (process / "fd").iterdir()):
                found.append(int(process.name))
        except OSError:  # it has ended, or is somebody else's
            continue
    return sorted(found)


def _taken(path: Path, owner: str) -> LostRace:
    living = [str(number) for number in holders(path) if number != os.getpid()]
    why = f"by process {owner or 'unknown'}, or a phase that it started"
    if living and owner not in living:
        why = f"by {', '.join(living)}, which process {owner or 'unknown'} has left behind"
    fix = (
        f"wait for it, or end it: kill {' '.join(living)}"
        if living
        else "wait for it, or stop it with Ctrl-C"
    )
    return LostRace("this run is being worked on", where=str(path.parent), why=why, fix=fix)


def _lives(owner: str) -> bool:
    """Whether the process with this id is there; of one that cannot be known it is taken for granted."""
    if not owner.isdecimal() or not 0 < int(owner) < 1 << 31:
        return True
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flock(file: IO[str], kind: int) -> bool:
    """Lock the file, for as long as it is open here or in a child. False when that cannot be done now."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
