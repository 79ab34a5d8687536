"""Processes that are killed: forked from the attempt, which has imported all that they need, and else like any other."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from components.shared.runtime import entry
from components.shared.runtime.artifact import artifact
from components.shared.runtime.errors import Interrupted, LostRace
from components.shared.runtime.executor import main
from tests.attack.attempt import TRACE, Bench, Loss, read_text, tail
from tests.contract.toy_phase import CONFIGS, Toy

KILLED = -signal.SIGKILL
PATIENCE = 60.0
"""Seconds in which a process that was not killed has to end."""


class Process:
    """A function in a process of its own, whose result is the exit code. Its output goes to a file."""

    def __init__(self, work: Callable[[], int], output: Path) -> None:
        self.output = output
        sys.stdout.flush()
        sys.stderr.flush()
        ready, begun = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            code = 1
            try:
                os.setpgid(0, 0)
                file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                os.dup2(file, 1)
                os.dup2(file, 2)
                signal.signal(signal.SIGTERM, entry._stop)  # as components.<phase> begins
                os.write(begun, b".")
                code = work()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(begun)
        os.read(ready, 1)
        os.close(ready)

    def send(self, number: signal.Signals) -> None:
        """Also to one that has ended: nothing happens then."""
        os.kill(self.pid, number)  # it is ours, and a zombie until we wait for it

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for it: its exit code, or -number of the signal. One that does not end hangs."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise Loss(f"a process did not end within {patience:.0f} s: {tail(read_text(self.output))}")

    def checked(self, *codes: int, patience: float = PATIENCE) -> int:
        """Wait for it, and have it end with one of these codes, without a trace.

        :raises Loss: it did not.
        """
        code, text = self.end(patience), read_text(self.output)
        if TRACE in text:
            print(text, file=sys.stderr)  # for the harness: a traceback
        elif code not in codes:
            raise Loss(f"exit code {code} in place of {' or '.join(map(str, codes))}: {tail(text)}")
        return code


def toy(bench: Bench, output: Path | str, *arguments: str, name: str = "phase") -> Process:
    """The toy phase, with many checkpoints."""
    words = ["--output", str(output), "toy.checkpoint_seconds=0", *arguments]
    return Process(lambda: main(Toy, words, configs=CONFIGS), bench.inside / f"{name}.txt")


def digest_of(folder: Path) -> str:
    """Of the artifact in a folder, every byte verified."""
    return artifact.read(folder).digest


def resumed(bench: Bench, output: Path, expected: str, *arguments: str) -> None:
    """Start the toy phase again: it must go on at once, end well, and leave the very artifact and nothing else.

    :raises Loss: it did not.
    """
    process = toy(bench, output, *arguments, name="resumed")
    code = process.checked(0, LostRace.exit_code)
    if code == LostRace.exit_code:
        raise Loss(f"a lock is stuck: {tail(read_text(process.output))}")
    whole(output, expected)
    left = sorted(
        path.name for path in output.parent.iterdir() if path.name.startswith((f".{output.name}", ".forge"))
    )
    checkpoints = Path(f"{output}.checkpoints")
    if left or checkpoints.exists():
        raise Loss(f"left behind after success: {left or sorted(map(str, checkpoints.rglob('*')))}")


def whole(output: Path, expected: str) -> None:
    """The artifact is published as a whole, and is the expected one.

    :raises Loss: it is another.
    """
    if (digest := digest_of(output)) != expected:
        raise Loss(f"the artifact's digest is {digest[:12]}, and was {expected[:12]} undisturbed")


def nothing_or_whole(output: Path, expected: str) -> None:
    """What may be seen at any moment.

    :raises Loss: something is published by half.
    """
    if output.exists() and ((output / artifact.MANIFEST).exists() or list(output.iterdir())):
        whole(output, expected)


def stopped(code: int) -> bool:
    """Whether this is how a process ends that was asked to (SIGTERM); False where it was through before.

    :raises Loss: it is neither.
    """
    if code not in (0, Interrupted.exit_code):
        raise Loss(f"exit code {code} after SIGTERM")
    return code != 0
