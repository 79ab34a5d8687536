"""The sandboxed process: it gives up what it may do, for good, and then runs the program that it was given.

    stdin       the order, as JSON (`main`); afterwards it is empty
    report      a pipe: "confined", then how the program came to its end: "end", "exit", "error" or "memory"

Nothing of the program has run before "confined". Limits are resource limits (setrlimit(2)), which a process cannot raise
again: seccomp refuses the call.
"""

from __future__ import annotations

import json
import linecache
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

from . import landlock, seccomp

PR_SET_PDEATHSIG = 1
FILES = 64
"""Open files at most."""
NAME = "program.py"


def main(root: str) -> None:
    """Read the order, confine this process, run the program.

    :param root: where this package was imported from; the program does not find it there.
    """
    order = json.load(sys.stdin)
    report = int(order["report"])
    try:
        confine(order)
    except OSError as error:
        os.write(report, f"refused: {error}".encode())
        os._exit(1)
    sys.path.remove(root)
    os.write(report, b"confined ")
    run(order["source"], report)


def confine(order: dict[str, Any]) -> None:
    """Give up everything that the order does not leave.

    :raises OSError: something cannot be had.
    """
    seccomp.control(PR_SET_PDEATHSIG, signal.SIGKILL)
    if order["parent"] and os.getppid() != order["parent"]:
        raise OSError("the process that asked is gone")
    os.chdir(order["folder"])
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    limits = {
        resource.RLIMIT_CPU: int(order["seconds"]),
        resource.RLIMIT_AS: int(order["memory"]),
        resource.RLIMIT_FSIZE: int(order["disk"]),
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_SIGPENDING: FILES,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_CORE: 0,
    }
    version = min(landlock.abi(), order["landlock"]["most"])
    if not version and order["landlock"]["needed"]:
        raise OSError("the kernel has no Landlock")
    if version:
        landlock.restrict(order["read"], [order["folder"]], order["devices"], version)
    for name, most in limits.items():
        # of processor time one second more is hard, so that a program which is not out for it ends by SIGXCPU
        resource.setrlimit(name, (most, most + (name == resource.RLIMIT_CPU)))
    seccomp.install(os.getpid())


def run(source: str, report: int) -> None:
    """Run the program as __main__, and end the process."""
    tell, leave = os.write, os._exit  # what the program puts in their place changes nothing here
    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
    ended, status = b"end", 0
    try:
        exec(compile(source, NAME, "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    except SystemExit as leaving:
        ended, status = (
            b"exit",
            leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None),
        )
    except MemoryError:
        ended, status = b"memory", 1
    except BaseException as error:
        ended, status = b"error", 1
        own = error.__traceback__.tb_next if error.__traceback__ else None
        with suppress(Exception):
            traceback.print_exception(type(error), error, own, file=sys.__stderr__)
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(Exception):
        sys.stderr.flush()
    tell(report, ended)
    leave(status & 0xFF)
