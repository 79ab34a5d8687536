"""Attempts that must not be survived, one of each kind: they show that the harness can fail. It is in no campaign."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

from components.shared.runtime.errors import ConfigError
from tests.attack.attempt import TRACE, Bench, Loss

COUNT = 10
LIMIT = 1.0


def prepare(bench: Bench) -> str:
    return "nothing"


def lost(bench: Bench) -> str:
    raise Loss("a wrong byte was accepted")


def foreign_code(bench: Bench) -> str:
    bench.marker.touch()
    return "run"


def outside(bench: Bench) -> str:
    (bench.inside / "../outside/file").write_text("traversal")
    return "written"


def beside(bench: Bench) -> str:
    (bench.inside.parent / "file").write_text("traversal")
    return "written"


def hangs(bench: Bench) -> str:
    time.sleep(60)
    return "late"


def raises(bench: Bench) -> str:
    return {}["key"]


def says(bench: Bench) -> str:
    print(TRACE, file=sys.stderr)
    return "swallowed"


def crashes(bench: Bench) -> str:
    os.kill(os.getpid(), signal.SIGSEGV)
    return "unreachable"


def eats(bench: Bench) -> str:
    return str(len(bytearray(64 * 2**30)))


def refuses(bench: Bench) -> str:
    raise ConfigError("this is how it should be")


KINDS: tuple[tuple[Callable[[Bench], str], str], ...] = (
    (lost, "loss"), (foreign_code, "loss"), (outside, "loss"), (beside, "loss"), (hangs, "hang"), (raises, "traceback"),
    (says, "traceback"), (crashes, "traceback"), (eats, "traceback"), (refuses, "survived"),
)  # fmt: skip
"""What is done, and how the harness must judge it."""


def attempt(bench: Bench) -> str:
    return KINDS[int(bench.inside.parent.name)][0](bench)
