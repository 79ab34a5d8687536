"""No process outlives the one that started it: where that is killed, the kernel ends this one (Linux, prctl(2)).

Elsewhere an orphan goes on to its end. The run's lock is its until then, so that nobody works beside it unnoticed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
"""Loaded before anything forks: a child may only call what is there."""


def end_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Ask for a signal when the parent ends; take it now where it has ended already.

    :param parent: the process id of who started this one.
    :param number: SIGTERM lets a phase write its checkpoint.
    """
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), number)


def outlive_parent() -> None:
    """Take that back."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
