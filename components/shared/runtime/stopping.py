"""A phase that is asked to stop (SIGTERM) writes a checkpoint before it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_asked: list[int] = []


def ask_to_stop(signal_number: int = signal.SIGTERM, frame: object = None) -> None:
    """Signal handler: the next checkpoint is due at once, and the phase ends behind it."""
    _asked.append(signal_number)


def forget_stop() -> None:
    """Take the request back (a new phase begins in the same process)."""
    _asked.clear()


def asked() -> bool:
    """Whether somebody has asked."""
    return bool(_asked)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM asks for a checkpoint instead of killing. In a thread, which gets no signals, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    forget_stop()
    before = signal.signal(signal.SIGTERM, ask_to_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
