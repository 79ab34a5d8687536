"""The processes that help: the fork server and the phases that it forks."""

from __future__ import annotations

import signal
import time

from tests.attack.attempt import Bench


def killed(bench: Bench, number: signal.Signals) -> str:
    return "TODO"


__all__ = ["killed", "time"]
