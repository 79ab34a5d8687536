"""What a program in the sandbox may use, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ending = Literal["end", "exit", "error", "memory", "killed", "time", "disk", "output"]


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    :param seconds: of processor time, whole ones: what a program gets does not depend on what else runs on the machine.
    :param wall: seconds by the clock.
    :param memory: bytes of its address space.
    :param disk: bytes of the files in its folder.
    :param output: bytes of stdout, and of stderr.
    """

    seconds: int
    wall: float
    memory: int
    disk: int
    output: int


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and what it wrote.

    :param ending: `end`: it came to the end of its last statement. `exit`: it left before that, by itself (sys.exit,
        os._exit). `error`: an exception that nobody caught; its traceback is in `stderr`. `memory`: a MemoryError.
        `killed`: by a signal. `time`, `disk`, `output`: it was stopped for having had all of it.
    :param stdout: what it wrote there, as far as the limit goes.
    :param stderr: as stdout.
    :param seconds: wall clock, its start included.
    :param backend: what held it.
    """

    ending: Ending
    stdout: str
    stderr: str
    seconds: float
    backend: str

    @property
    def completed(self) -> bool:
        """Whether all its statements ran. What a program prints is its own claim; this is the sandbox's."""
        return self.ending == "end"
