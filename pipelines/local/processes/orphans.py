"""No process outlives the one that started it: where that is killed, the kernel kills this one (Linux, prctl(2)).

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


def end_with_parent(parent: int) -> None:
    """Ask for SIGKILL when the parent ends; take it now where it has ended already.

    :param parent: the process id of who started this one.
    """
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def outlive_parent() -> None:
    """Take that back."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
