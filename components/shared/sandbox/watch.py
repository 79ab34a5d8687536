"""Reading what a sandboxed process writes, and stopping it where it has had enough."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .backends import Command, SandboxUnavailable
from .disk import Usage, folder_usage, mounted_usage
from .outcome import Ending, Limits

POLL = 0.02
"""Seconds from one look at the clock and the disk to the next."""
ENTRIES = 4096
"""Files and folders that a program may make."""
CHUNK = 1 << 16


class Pipe(NamedTuple):
    """The two ends of a pipe."""

    read: int
    write: int


class Pipes:
    """The pipes by which the process reports, and by which bubblewrap says its number; closed at the end."""

    def __init__(self) -> None:
        self.report, self.info = Pipe(*os.pipe()), Pipe(*os.pipe())
        self.open = {*self.report, *self.info}

    def __enter__(self) -> Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self.open:
            os.close(end)

    def handed_over(self) -> None:
        """The process has its ends: close them here."""
        for end in (self.report.write, self.info.write):
            os.close(end)
            self.open.discard(end)


def watch(
    process: subprocess.Popen[bytes], pipes: Pipes, started: Command, limits: Limits, deadline: float
) -> tuple[Ending | None, dict[str, bytes]]:
    """Read all streams to their ends; kill the process where it is over a limit.

    :param deadline: by time.monotonic.
    :returns: what it was stopped for, and what stood in the streams: stdout, stderr, report, info.
    """
    assert process.stdout is not None and process.stderr is not None
    streams = {"stdout": process.stdout.fileno(), "stderr": process.stderr.fileno()}
    streams |= {"report": pipes.report.read, "info": pipes.info.read}
    most = dict.fromkeys(streams, CHUNK) | dict.fromkeys(("stdout", "stderr"), limits.output)
    written = {name: bytearray() for name in streams}
    stopped: Ending | None = None
    looked = 0.0
    with selectors.DefaultSelector() as selector, killing(process), process.stdout, process.stderr:
        for name, descriptor in streams.items():
            selector.register(descriptor, selectors.EVENT_READ, name)
        while selector.get_map():
            for key, _ in selector.select(POLL):
                data = os.read(key.fd, CHUNK)
                if not data:
                    selector.unregister(key.fd)
                written[key.data] += data
            now = time.monotonic()
            if stopped:
                continue  # what is left in the pipes
            if any(len(text) > most[name] for name, text in written.items()):
                stopped = "output"
            elif now > deadline:
                stopped = "time"
            elif now - looked >= POLL and written["report"]:
                looked = now
                if over(used(started, bytes(written["info"]), limits), limits):
                    stopped = "disk"
            if stopped:
                process.kill()
        process.wait()
    return stopped, {name: bytes(text[: most[name]]) for name, text in written.items()}


@contextmanager
def killing(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """However the block is left, an interrupt included, the process has ended then."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def used(started: Command, info: bytes, limits: Limits) -> Usage:
    """What the program has written so far.

    :param info: what bubblewrap has said of the process; nothing where there is no bubblewrap.
    :raises SandboxUnavailable: bubblewrap has said nothing of it: it is another program, or a very old one.
    """
    if started.needs_landlock:
        return folder_usage(started.folder, Usage(ENTRIES, limits.disk))
    try:
        return mounted_usage(json.loads(info)["child-pid"], started.folder)
    except (ValueError, KeyError) as error:
        raise SandboxUnavailable(
            "bubblewrap does not say which process it holds", where=started.argv[0], why=str(error)
        ) from error


def over(usage: Usage, limits: Limits) -> bool:
    """Whether it is more than a program may write."""
    return usage.entries > ENTRIES or usage.bytes > limits.disk
