"""One attempt: hostile work in a forked child, with a time limit, a memory limit and a folder of its own.

    <folder>/inside/    where the work is done: its current folder, and all that it may write
    <folder>/outside/   what nothing may touch
    <folder>/output.txt what the child wrote to stdout and stderr; ended.json: how it ended by its own account
    <folder>/marker     made by foreign code, where any was run

An error of the project's own hierarchy is a refusal, and survived. Everything else that is raised, a crash of the
interpreter, and a trace in the output are tracebacks; a child that is not through in time hangs.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

import psutil

from components.shared.runtime import disk
from components.shared.runtime.errors import ForgeError

Verdict = Literal["survived", "loss", "hang", "traceback"]

TRACE = "Traceback (most recent call last)"
SENTINEL = "nobody may change this"
MEMORY = 3 * 2**30
"""Bytes of address space that an attempt may take beyond what the warm parent has."""
SUBREAPER = 36
DUMP = 0.3
"""Seconds in which a child that hangs says where."""


class Loss(Exception):
    """Something was lost, a wrong byte was accepted, or a promise of the project was broken."""


@dataclass
class Bench:
    """What the work of an attempt gets.

    :param rng: all that is random comes from here, so that the attempt can be repeated.
    :param inside: its current folder.
    :param shared: what `prepare` of its class has made; not to be written.
    """

    rng: random.Random
    inside: Path
    shared: Path

    @property
    def outside(self) -> Path:
        """A folder that nothing may touch."""
        return self.inside.parent / "outside"

    @property
    def marker(self) -> Path:
        """What foreign code makes, if it is run."""
        return self.inside.parent / "marker"

    def copy(self, name: str) -> Path:
        """A copy of a thing that `prepare` has made."""
        source, target = self.shared / name, self.inside / Path(name).name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copyfile(source, target)
        return target


Work = Callable[[Bench], str]


@dataclass(frozen=True)
class Ended:
    """How an attempt ended."""

    verdict: Verdict
    note: str
    seconds: float
    cpu_seconds: float = 0.0


class Running:
    """An attempt under way."""

    def __init__(self, work: Work, rng: random.Random, folder: Path, shared: Path, limit: float) -> None:
        self.folder = folder
        self.began = time.monotonic()
        self.deadline = self.began + limit
        shutil.rmtree(folder, ignore_errors=True)
        bench = Bench(rng, folder / "inside", shared)
        bench.inside.mkdir(parents=True)
        bench.outside.mkdir()
        (bench.outside / "sentinel").write_text(SENTINEL)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _live(work, bench)

    def poll(self) -> Ended | None:
        """None while it goes on."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        late = not pid and time.monotonic() > self.deadline
        if not pid and not late:
            return None
        if late:
            os.kill(self.pid, signal.SIGUSR1)
            time.sleep(DUMP)
            status, usage = end_family(self.pid)
        return replace(self._judged(late, status), cpu_seconds=usage.ru_utime + usage.ru_stime)

    def _judged(self, late: bool, status: int) -> Ended:
        seconds = time.monotonic() - self.began
        output = read_text(self.folder / "output.txt")
        with contextlib.suppress(OSError, ValueError):
            said = json.loads((self.folder / "ended.json").read_text())
            if not late:
                return Ended(*self._checked(said["verdict"], said["note"], output), seconds)
        if late:
            frames = [line.strip() for line in output.splitlines() if line.startswith('  File "')]
            ours = [frame for frame in frames if "/components/" in frame or "/pipelines/" in frame] or frames
            where = " < ".join(ours[:3]) or tail(output)
            return Ended("hang", f"not through after {seconds:.0f} s: {where}", seconds)
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Ended("traceback", f"the process ended with {how}: {tail(output)}", seconds)

    def _checked(self, verdict: Verdict, note: str, output: str) -> tuple[Verdict, str]:
        """What the child cannot see by itself."""
        if verdict == "survived":
            outside = self.folder / "outside"
            if (self.folder / "marker").exists():
                return "loss", f"foreign code was run ({note})"
            if os.listdir(outside) != ["sentinel"] or read_text(outside / "sentinel") != SENTINEL:
                return "loss", f"something outside was written: {os.listdir(outside)} ({note})"
            if strays := set(os.listdir(self.folder)) - {
                "inside",
                "outside",
                "tmp",
                "output.txt",
                "ended.json",
            }:
                return "loss", f"something was written beside the folder: {sorted(strays)} ({note})"
            if TRACE in output:
                return "traceback", f"{tail(output)} ({note})"
        return verdict, note


def _live(work: Work, bench: Bench) -> NoReturn:
    """In the child: the work, and the account of its end."""
    verdict, note = "traceback", ""
    try:
        _settle(bench)
        try:
            verdict, note = "survived", work(bench)
        except Loss as error:
            verdict, note = "loss", str(error)
        except BaseException as error:
            if ours := refusal(error):
                verdict, note = "survived", f"refused: {ours}"
            else:
                traceback.print_exc()
                verdict, note = "traceback", f"{type(error).__name__}: {error} at {place(error)}"
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        sys.stdout.flush()
        sys.stderr.flush()
        text = json.dumps({"verdict": verdict, "note": " ".join(note.split())[:400]})
        (bench.inside.parent / "ended.json").write_text(text)
    finally:
        os._exit(0)


def _settle(bench: Bench) -> None:
    """Put on what an attempt has of its own: group, output, folders, environment, limits."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)  # who is orphaned below stays in sight
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    output = os.open(bench.inside.parent / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
        os.dup2(source, target)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)  # where it hangs
    for name in [name for name in os.environ if name.startswith(("FORGE_", "MLFLOW_", "AWS_", "KFP_"))]:
        del os.environ[name]
    temporary = bench.inside.parent / "tmp"
    temporary.mkdir()
    os.environ.update(HOME=str(temporary), TMPDIR=str(temporary), MLFLOW_TRACKING_URI="")
    tempfile.tempdir = None
    os.chdir(bench.inside)
    taken = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def end_family(pid: int) -> tuple[int, resource.struct_rusage]:
    """Kill a child with all below it; its wait status, and what it has used."""
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return os.wait4(pid, 0)[1:]


def refusal(error: BaseException) -> ForgeError | None:
    """The error of ours that the command line makes of this one; None where it would show a trace, or it is not theirs."""
    if isinstance(error, ForgeError):
        return error
    return disk.refusal(error) if _frames(error) else None


def place(error: BaseException) -> str:
    """Where an exception was raised: the innermost frame of the project, else the innermost."""
    frame = (_frames(error) or traceback.extract_tb(error.__traceback__))[-1]
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}"


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Those of the project that an exception has come through."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if "/components/" in frame.filename or "/pipelines/" in frame.filename]


def tail(text: str) -> str:
    """The last line of an output that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "(no output)"


def read_text(path: Path) -> str:
    """What a file holds, empty where there is none."""
    return path.read_text(errors="replace") if path.is_file() else ""
