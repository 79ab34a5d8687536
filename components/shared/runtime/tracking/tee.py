"""What a process writes, line by line, for somebody else too. The stream stays itself, whoever holds on to it already.

Only what Python writes is seen: a library in C that writes to the file itself is in the pod's own log alone. A terminal
is left alone: its bars are drawn over each other, and a person is looking at them.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO

REST = 1 << 16
"""Characters of a line without an end that are waited for."""

MOVES = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]|\x1b\][^\x07]*\x07")
"""What a terminal does beside colouring text."""


_telling = threading.local()


class Tee:
    """Gives the lines that are written to a stream to `line`, after the stream has them."""

    def __init__(self, stream: TextIO, line: Callable[[str], None]) -> None:
        self.stream = stream
        self.line = line
        self._write: Callable[[str], int] = stream.write
        self._rest = ""
        self._lock = threading.Lock()

    def install(self) -> None:
        """From now on."""
        vars(self.stream)["write"] = self._written

    def remove(self) -> None:
        """Not any more; what has no end yet is a line, too."""
        vars(self.stream).pop("write", None)
        with self._lock:
            rest, self._rest = self._rest, ""
        if rest:
            self.line(_shown(rest))

    def _written(self, text: str) -> int:
        count = self._write(text)
        if not getattr(_telling, "now", False):  # what is written while a line is told is not told again
            _telling.now = True
            try:
                self._split(text)
            finally:
                _telling.now = False
        return count

    def _split(self, text: str) -> None:
        with self._lock:
            *lines, rest = (self._rest + text).split("\n")
            last = rest.rstrip("\r").rpartition("\r")[2]  # a bar was drawn over what is before it
            self._rest = last + "\r" * rest.endswith("\r")
            if len(self._rest) > REST:
                lines.append(self._rest)
                self._rest = ""
        for line in lines:
            self.line(_shown(line))


def _shown(line: str) -> str:
    """The line as it ends up on a terminal: a bar that was drawn over and over is its last picture."""
    return MOVES.sub("", line.rstrip("\r").rpartition("\r")[2])


@contextlib.contextmanager
def told(line: Callable[[str], None]) -> Iterator[None]:
    """Give what is written to stdout and stderr to `line`, too."""
    streams: list[Any] = [sys.stdout, sys.stderr]
    tees = [Tee(stream, line) for stream in streams if hasattr(stream, "__dict__") and not stream.isatty()]
    for tee in tees:
        tee.install()
    try:
        yield
    finally:
        for tee in tees:
            tee.remove()
