"""What may pass is tried again inside the pod, from the checkpoint, before the pod gives up.

A cluster's own retries are not enough: Kubeflow Pipelines' controller takes every exit code of a phase for final unless
it is patched, and a new pod fetches image and inputs again. A store that does not answer or a process that was killed
says so itself (`ForgeError.transient`); MLflow's troubles never end a phase (tracking.py).
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from . import stopping
from .errors import ConfigError, ForgeError, Interrupted

T = TypeVar("T")
TICK = 0.2
"""Seconds between two looks at whether somebody has asked to stop."""


@dataclass(frozen=True)
class Retries:
    """How often, and after which pauses: `seconds`, then `factor` times as long, and so on."""

    times: int = 0
    seconds: float = 30.0
    factor: float = 2.0

    @classmethod
    def from_environment(cls) -> Retries:
        """FORGE_RETRIES, FORGE_RETRY_SECONDS and FORGE_RETRY_FACTOR; none by default.

        :raises ConfigError: one of them is no such number.
        """
        return cls(
            int(_number("FORGE_RETRIES", cls.times, 0, int)),
            _number("FORGE_RETRY_SECONDS", cls.seconds, 0.0, float),
            _number("FORGE_RETRY_FACTOR", cls.factor, 1.0, float),
        )

    def pause(self, attempt: int) -> float:
        """Seconds between this attempt (1 is the first) and the next."""
        return float(self.seconds * self.factor ** (attempt - 1))


def with_retries(work: Callable[[], T], retries: Retries, say: Callable[[str], None]) -> T:
    """Do the work, again where its failure may pass.

    :raises ForgeError: the failure of the last attempt, or the first that will not pass by itself.
    :raises Interrupted: SIGTERM came during an attempt that failed, or during a pause.
    """
    for attempt in range(1, retries.times + 1):
        try:
            return work()
        except ForgeError as error:
            if not error.transient:
                raise
            reason = " ".join(str(error).split())
            if stopping.stop_requested():
                raise _stopped() from error
        gc.collect()  # a model's worth of memory, held by the frames of the failure
        pause = retries.pause(attempt)
        say(
            f"attempt {attempt} of {retries.times + 1} failed: {reason} "
            f"It goes on from its last checkpoint in {pause:g} s."
        )
        _wait(pause)
    return work()


def _wait(seconds: float) -> None:
    """Sleep, but for a SIGTERM."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if stopping.stop_requested():
            raise _stopped()
        time.sleep(min(TICK, left))


def _stopped() -> Interrupted:
    return Interrupted(
        "stopped as asked, between two attempts", fix="start it again to go on from its last checkpoint"
    )


def _number(name: str, default: float, least: float, kind: type[int] | type[float]) -> float:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = least - 1
    if not least <= value < float("inf"):
        whole = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{name} is {text!r}", where="the environment", fix=f"give {whole} ≥ {least:g}")
    return value
