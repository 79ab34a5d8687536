"""SIGTERM at random moments: the exit code says that it was asked to, and nothing is lost."""

from __future__ import annotations

import signal

from tests.attack.attempt import Bench
from tests.attack.classes import kill

COUNT = 60
LIMIT = kill.LIMIT
prepare = kill.prepare


def attempt(bench: Bench) -> str:
    """As `kill`, with the signal that can be answered."""
    return kill.attempt(bench, signal.SIGTERM)
