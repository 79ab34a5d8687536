"""kill -9 at random moments of phases and of the runner."""

from __future__ import annotations

import shutil
import signal
import time

from tests.attack.attempt import Bench
from tests.attack.classes import runner
from tests.attack.classes.processes import digest_of, nothing_or_whole, resumed, toy

COUNT = 90
LIMIT = 120.0
STEPS = "toy.steps=60"
STOPPED = (STEPS, "toy.pause=0.01")
"""Slow enough to be stopped in between."""


def prepare(bench: Bench) -> str:
    """What most classes attack: the toy phase undisturbed and stopped by half, and a finished run with its cache."""
    began = time.monotonic()
    toy(bench, bench.inside / "out", STEPS).checked(0)
    (bench.inside / "digest").write_text(digest_of(bench.inside / "out"))
    (bench.inside / "seconds").write_text(str(time.monotonic() - began))
    stopped = bench.inside / "stopped"
    code = 0
    while code == 0:  # through before it was stopped
        shutil.rmtree(stopped, ignore_errors=True)
        stopped.mkdir()
        process = toy(bench, stopped / "out", *STOPPED)
        while len(list(stopped.glob("*/*/*/state.json"))) < 2 and not (stopped / "out").exists():
            time.sleep(0.005)
        process.send(signal.SIGTERM)
        code = process.checked(0, 75)
    return runner.prepare(bench)


def attempt(bench: Bench, number: signal.Signals = signal.SIGKILL) -> str:
    """A phase, or a runner."""
    chosen = bench.rng.choices((phase, runner.killed), (80, 20))[0]
    return chosen(bench, number)


def phase(bench: Bench, number: signal.Signals) -> str:
    """Up to four times at random moments of one phase; then it goes on to its end."""
    expected = (bench.shared / "digest").read_text()
    seconds = float((bench.shared / "seconds").read_text())
    output, moments = bench.inside / "out", []
    codes = (0, -signal.SIGKILL) if number == signal.SIGKILL else (0, 75)
    for _ in range(bench.rng.randint(1, 4)):
        process = toy(bench, output, STEPS)
        moments.append(bench.rng.uniform(0, 1.1 * seconds))
        time.sleep(moments[-1])
        process.send(number)
        process.checked(*codes)
        nothing_or_whole(output, expected)
    resumed(bench, output, expected, STEPS)
    return f"phase, {number.name} after {', '.join(f'{moment:.3f}' for moment in moments)} s"
