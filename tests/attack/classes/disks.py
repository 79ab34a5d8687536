"""Full and read-only disks under a phase, a publication, a checkpoint and a run.

Where root allows a mount: a tmpfs of a few kilobytes, or one that is mounted read-only at a random moment. Everywhere:
RLIMIT_FSIZE (a write beyond it fails with EFBIG, in Rust too), folders without the right to write, for a process that is
not root, and faults injected into Python's write, fsync, rename and link (ENOSPC, EROFS, EIO, EDQUOT) at a random call.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import errno
import io
import os
import random
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.shared.runtime.executor import main
from tests.attack.attempt import Bench, Loss
from tests.attack.classes import kill, runner
from tests.attack.classes.processes import CONFIGS, Process, Toy, nothing_or_whole, resumed
from tests.attack.classes.runner import complete

COUNT = 110
LIMIT = 120.0
prepare = kill.prepare
FAULTS = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT)
CALLS = ("fsync", "rename", "replace", "link", "mkdir", "pwrite", "unlink", "ftruncate")
"""Of the module os; and the writing of files that Python opens."""
NEW_NAMESPACE, READ_ONLY, REMOUNT = 0x20000, 1, 32
NOBODY = 65534


def attempt(bench: Bench) -> str:
    """A phase or a run on a disk that refuses; on a good one it then ends as if nothing had been."""
    work = phase if bench.rng.random() < 0.75 else run
    disks = [limited, injected, unwritable]
    if os.geteuid() == 0:
        disks += [small, frozen]
    disk = bench.rng.choice(disks)
    return work(bench, disk)


Disk = Callable[[random.Random, Path, Callable[[], int]], int]
"""A disk refuses what is written below a folder while the work is done, whose exit code it returns."""


def phase(bench: Bench, disk: Disk) -> str:
    """The toy phase: it ends well or with an error of ours; nothing half published, and it can go on."""
    expected, place = (bench.shared / "digest").read_text(), bench.inside / "disk"
    place.mkdir()
    output = place / "out"
    words = ["--output", str(output), "toy.checkpoint_seconds=0", kill.STEPS]
    process = Process(
        lambda: disk(bench.rng, place, lambda: main(Toy, words, configs=CONFIGS)), bench.inside / "disk.txt"
    )
    code = process.checked(0, 2, 3, 5, 6, 9)
    nothing_or_whole(output, expected)
    resumed(bench, output, expected, kill.STEPS)
    return f"phase on a {disk.__name__} disk: exit code {code}"


def run(bench: Bench, disk: Disk) -> str:
    """The toy pipeline: the same of a run."""
    pipeline, place = bench.copy(runner.PIPELINE), bench.inside / "disk"
    place.mkdir()
    runs = place / "runs"
    process = Process(
        lambda: disk(bench.rng, place, lambda: runner.started(pipeline, runs)), bench.inside / "disk.txt"
    )
    code = process.checked(0, 2, 3, 5, 6, 8, 9, 75)
    Process(lambda: runner.started(pipeline, runs), bench.inside / "again.txt").checked(0)
    complete(bench, runs)
    return f"run on a {disk.__name__} disk: exit code {code}"


# -- disks


def limited(rng: random.Random, place: Path, work: Callable[[], int]) -> int:
    """No file may become longer than so many bytes."""
    most = rng.choice((0, rng.randrange(200), rng.randrange(4000)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    reader, writer = (
        os.pipe()
    )  # what is said goes to a file too, whose length is limited: it goes round by a pipe
    said, pid = os.dup(1), os.fork()
    if not pid:
        os.close(writer)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        while data := os.read(reader, 65536):
            os.write(said, data)
        os._exit(0)
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    try:
        return work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        with contextlib.suppress(OSError):
            sys.stderr.flush()
            sys.stdout.flush()
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.waitpid(pid, 0)


def injected(rng: random.Random, place: Path, work: Callable[[], int]) -> int:
    """From the n-th call on, for a while or for good, one of the calls that write fails below `place`."""
    with faults(rng, place):
        return work()


@contextlib.contextmanager
def faults(rng: random.Random, place: Path) -> Iterator[None]:
    """Have one call of `os`, or the writing of Python's files, fail."""
    left, times = rng.randrange(12), rng.choice((1, 1, 3, 10**9))
    number, broken = rng.choice(FAULTS), rng.choice((*CALLS, "write", "write"))

    def fails(what: Any) -> bool:
        nonlocal left, times
        if isinstance(what, int):
            try:
                what = os.readlink(f"/proc/self/fd/{what}")
            except OSError:
                return False
        if not os.path.abspath(os.fspath(what)).startswith(str(place)):
            return False
        left -= 1
        if left >= 0 or times <= 0:
            return False
        times -= 1
        return True

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(what: Any, *arguments: Any, **more: Any) -> Any:
            if fails(what):
                raise OSError(number, os.strerror(number), what if isinstance(what, str) else None)
            return call(what, *arguments, **more)

        return refuse

    class File(io.FileIO):
        """A file whose disk may be full."""

        def write(self, data: Any) -> int | None:  # type: ignore[override]
            if fails(self.fileno()):
                raise OSError(number, os.strerror(number))
            return super().write(data)

    opened = io.open

    def open_file(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **more: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return opened(file, mode, buffering, *arguments, **more)
        raw = File(os.fspath(file), "".join(letter for letter in mode if letter in "rwax+"))
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, *arguments, **more)

    if broken == "write":
        io.open = builtins.open = open_file  # type: ignore[assignment]
        try:
            yield
        finally:
            io.open = builtins.open = opened  # type: ignore[assignment]
        return
    before = getattr(os, broken)
    setattr(os, broken, wrapped(before))
    try:
        yield
    finally:
        setattr(os, broken, before)


def unwritable(rng: random.Random, place: Path, work: Callable[[], int]) -> int:
    """Nobody may write there: for root by being somebody else."""
    place.chmod(0o555)
    if os.geteuid() == 0:
        for folder in (place, *place.parents):
            if not folder.stat().st_mode & 0o001 and str(folder).startswith("/tmp/"):
                folder.chmod(folder.stat().st_mode | 0o011)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    return work()


def small(rng: random.Random, place: Path, work: Callable[[], int]) -> int:
    """A disk of a few kilobytes, which is full at some moment; what was written stays when it becomes larger."""
    _mount(place, f"size={rng.choice((4, 8, 16, 32, 64, 128))}k")
    return _kept(place, work)


def frozen(rng: random.Random, place: Path, work: Callable[[], int]) -> int:
    """A disk that becomes read-only while it is written (as ext4 does on an error), or was from the beginning."""
    _mount(place, "size=100m")

    def freeze() -> None:
        if ctypes.CDLL(None, use_errno=True).mount(
            None, str(place).encode(), None, READ_ONLY | REMOUNT, None
        ):
            held.append(ctypes.get_errno())  # a file is open for writing: the kernel refuses

    held: list[int] = []
    seconds = rng.choice((0.0, rng.uniform(0, 0.6)))
    timer = threading.Timer(seconds, freeze)
    if seconds:
        timer.start()
    else:
        freeze()
    try:
        return _kept(place, work)
    finally:
        timer.cancel()


def _mount(place: Path, options: str) -> None:
    """A tmpfs that only this process and its children see."""
    libc = ctypes.CDLL(None, use_errno=True)
    private = 1 << 18 | 1 << 14  # MS_PRIVATE | MS_REC
    if (
        libc.unshare(NEW_NAMESPACE)
        or libc.mount(b"none", b"/", None, private, None)
        or libc.mount(b"none", str(place).encode(), b"tmpfs", 0, options.encode())
    ):
        raise Loss(f"a mount is refused: {os.strerror(ctypes.get_errno())}")


def _kept(place: Path, work: Callable[[], int]) -> int:
    """Do the work; what it left on the small disk is then put on the large one below it."""
    code = work()
    saved = place.parent / "saved"
    if place.exists():
        shutil.copytree(place, saved, symlinks=True)
    os.chdir("/")
    deadline = time.monotonic() + 10
    while ctypes.CDLL(None).umount2(str(place).encode(), 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.copytree(saved, place, symlinks=True, dirs_exist_ok=True)
    return code
