"""Run a Python program that nobody has read: with limits, and with nothing of this machine in reach.

    outcome = run_python("print(1 + 1)", seconds=5, memory=256 << 20)
    outcome.completed, outcome.stdout.strip()        → True, "2"

One process, one thread, the standard library. What it may not do is refused to it as an error (PermissionError and the
like); where it has used up its time, its disk or its output it is killed. Where this machine cannot hold a program, nothing
is run.
"""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack

from .backends import BACKENDS, DEVICES, Backend, Command, SandboxUnavailable, command, environment, readable
from .disk import remove
from .outcome import Ending, Limits, Outcome
from .watch import Pipes, watch

SIGXCPU, SIGKILL = 24, 9
NEWEST = 1 << 16
"""Whatever version of Landlock the kernel has."""
PROBE = """
import os
held = 0
for attempt in (
    lambda: __import__("socket").socket(),
    lambda: os.listdir("/proc"),
    lambda: os.listdir("/root"),
    lambda: open("/etc/passwd").read(),
    lambda: open("/var/tmp/forge-sandbox-probe", "w"),
    lambda: os.fork() or os._exit(0),
    lambda: os.kill(os.getppid(), 0),
):
    try:
        attempt()
    except OSError:
        held += 1
with open("own", "w") as file:
    file.write("own")
print(held, "held")
"""
"""A program that tries what it must not, and counts how often it was held."""
HELD = "7 held\n"


def run_python(
    source: str,
    *,
    seconds: float = 10.0,
    wall: float | None = None,
    memory: int = 512 << 20,
    disk: int = 16 << 20,
    output: int = 1 << 20,
    backend: Backend | None = None,
) -> Outcome:
    """Run a program to its end, or to the end of what it may use (`Limits`).

    :param seconds: of processor time, rounded up to whole ones.
    :param wall: seconds by the clock; left out: four times `seconds`, and thirty: a busy machine is slow.
    :param memory: bytes of its address space.
    :param disk: bytes that it may write, into a folder of its own that is removed.
    :param output: bytes of stdout, and of stderr.
    :param backend: None: the first of BACKENDS that this machine has.
    :raises SandboxUnavailable: there is none, or not this one.
    """
    limits = Limits(math.ceil(seconds), 4 * seconds + 30 if wall is None else wall, memory, disk, output)
    return _run(source, limits, backend or available(), NEWEST)


@functools.cache
def available() -> Backend:
    """The first backend that holds a program that tries to break out.

    :raises SandboxUnavailable: there is none; it says why of each.
    """
    reasons = []
    for backend in BACKENDS:
        try:
            outcome = run_python(PROBE, seconds=10, wall=60, backend=backend)
        except SandboxUnavailable as error:
            reasons.append(f"{backend}: {error.why or error.what}")
            continue
        if outcome.completed and outcome.stdout == HELD:
            return backend
        reasons.append(f"{backend}: it does not hold ({outcome.ending}, {outcome.stdout.strip()})")
    raise SandboxUnavailable(
        "this machine cannot hold a program, so none is run",
        where="sandbox",
        why="; ".join(reasons),
        fix="install bubblewrap and allow user namespaces, or use Linux 5.13 or newer with Landlock",
    )


def _run(source: str, limits: Limits, backend: Backend, landlock: int) -> Outcome:
    """Start the process, watch it, and say what became of the program.

    :param landlock: the version of its ABI that is used at most.
    """
    began = time.monotonic()
    with ExitStack() as end:
        folder = tempfile.mkdtemp(prefix="forge-sandbox-")
        end.callback(remove, folder)
        pipes = end.enter_context(Pipes())
        started = command(backend, folder, disk=limits.disk, info=pipes.info.write)
        process = start(started, order(source, limits, started, pipes, landlock), pipes)
        pipes.handed_over()
        stopped, written = watch(process, pipes, started, limits, began + limits.wall)
    said = written["report"].decode(errors="replace")
    stdout, stderr = (written[name].decode(errors="replace") for name in ("stdout", "stderr"))
    if not said.startswith("confined") and stopped != "time":
        raise SandboxUnavailable(
            "the sandbox refused to run a program",
            where=backend,
            why=said or stderr.strip() or f"it ended with {process.returncode}",
            fix="allow user namespaces for bubblewrap, or use a kernel with Landlock",
        )
    ending = stopped or how_it_ended(said.removeprefix("confined").strip(), process.returncode)
    return Outcome(ending, stdout, stderr, time.monotonic() - began, backend)


def order(source: str, limits: Limits, started: Command, pipes: Pipes, landlock: int) -> bytes:
    """What the sandboxed process is told, as JSON (inside/confine.py)."""
    needed = started.needs_landlock
    return json.dumps(
        {
            "source": source,
            "report": pipes.report.write,
            "folder": started.folder,
            "parent": os.getpid() if needed else 0,  # bubblewrap looks after its own
            "read": readable(),
            "devices": DEVICES,
            "landlock": {"needed": needed, "most": landlock},
            "seconds": limits.seconds,
            "memory": limits.memory,
            "disk": limits.disk,
        }
    ).encode()


def start(started: Command, told: bytes, pipes: Pipes) -> subprocess.Popen[bytes]:
    """The sandboxed process, told what to do.

    :raises SandboxUnavailable: it cannot be started.
    """
    with tempfile.TemporaryFile() as stdin:
        stdin.write(told)
        stdin.seek(0)
        try:
            return subprocess.Popen(
                started.argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(started.folder),
                pass_fds=(pipes.report.write, pipes.info.write),
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxUnavailable(
                "the sandboxed process cannot be started", where=started.argv[0], why=str(error)
            ) from error


def how_it_ended(said: str, status: int) -> Ending:
    """The ending of a program that nobody stopped.

    :param said: its own report.
    :param status: of the process: −signal, or bubblewrap's 128 + signal.
    """
    for ending in ("end", "exit", "error", "memory"):
        if said == ending:
            return ending
    dead = -status if status < 0 else status - 128
    if dead == SIGXCPU:
        return "time"
    return "killed" if dead > 0 else "exit"
