"""A phase that is asked to stop (SIGTERM) writes a checkpoint before it ends."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_requests: list[int] = []


def request_stop(signal_number: int = signal.SIGTERM, frame: object = None) -> None:
    """Signal handler: the next checkpoint is due at once, and the phase ends behind it."""
    _requests.append(signal_number)


def clear_stop_request() -> None:
    """Take the request back (a new phase begins in the same process)."""
    _requests.clear()


def stop_requested() -> bool:
    """Whether somebody has asked the phase to stop."""
    return bool(_requests)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM asks for a checkpoint instead of killing. In a thread, which gets no signals, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    clear_stop_request()
    previous = signal.signal(signal.SIGTERM, request_stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
