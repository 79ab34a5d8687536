"""The ways in which a program is held here: both backends, and Landlock as of its first version (Linux 5.13)."""

from __future__ import annotations

import math
import shutil
from typing import Any

import pytest

from components.shared.sandbox import run
from components.shared.sandbox.backends import Backend
from components.shared.sandbox.inside import landlock
from components.shared.sandbox.outcome import Limits, Outcome
from tests.needs import lacks

WAYS = ("bubblewrap", "landlock", "landlock-1")
LIMITS = {"seconds": 5, "wall": 60.0, "memory": 256 << 20, "disk": 1 << 20, "output": 1 << 16}


def held(way: str, source: str, **limits: Any) -> Outcome:
    """The program's outcome."""
    if way == "bubblewrap" and shutil.which("bwrap") is None:
        lacks("bubblewrap is not installed")
    if way != "bubblewrap" and not landlock.abi():
        lacks("the kernel has no Landlock")
    backend: Backend = "bubblewrap" if way == "bubblewrap" else "landlock"
    chosen = LIMITS | limits
    return run._run(
        source,
        Limits(math.ceil(chosen.pop("seconds")), **chosen),
        backend,
        1 if way == "landlock-1" else run.NEWEST,
    )


every_way = pytest.mark.parametrize("way", WAYS)
