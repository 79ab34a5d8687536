"""A machine that is not ours alone: a run beside a process that loads every core, and three cognates at the same time.

    python tests/performance/under_load.py [--profile tiny] [--only run|cognates]

With profile micro, the default, it takes some minutes; with tiny, which the goals are meant for, about half an hour.
Everything is run quietly first and then under load; nothing else should be at work. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from components.shared.runtime import machine

ROOT = Path(__file__).parents[2]
SLOWER = 2.5
"""A run beside a load on all cores may take so many times its quiet time; twice would be an even share."""


@contextlib.contextmanager
def load() -> Iterator[None]:
    """As many busy loops as there are cores."""
    loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(round(machine.cores()))
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def start(folder: Path, *command: object) -> subprocess.Popen[bytes]:
    """Start one of the project's programs, with an MLflow of its own; its output goes to a file."""
    folder.mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, command)], cwd=ROOT, env=environment, stdout=log, stderr=log
        )


def run(folder: Path, profile: str) -> subprocess.Popen[bytes]:
    """All eight phases."""
    return start(
        folder, "pipelines.cli", "run-pipeline", "--profile", profile, "--runs", folder / "runs", "--no-cache"
    )


def cognate(folder: Path, profile: str, variant: str) -> subprocess.Popen[bytes]:
    """One variant by hand: its trunk, itself, its scores."""
    given = ("--profile", profile, "--set", f"variant={variant}", "--output", folder / "out")
    return start(folder, "components.cognate", *given)


def seconds(*starts: Callable[[], subprocess.Popen[bytes]]) -> float:
    """How long processes take side by side."""
    began = time.perf_counter()
    for process in [start() for start in starts]:
        if process.wait():
            raise SystemExit(f"{process.args} has failed; its log is in its folder")
    return time.perf_counter() - began


def rows(folder: Path, profile: str, only: str) -> Iterator[tuple[str, float, float, float]]:
    """(what, seconds before, seconds after, the goal for their ratio)."""
    if only != "cognates":
        quiet = seconds(lambda: run(folder / "quiet", profile))
        with load():
            yield (
                "a run, quiet → beside a load on all cores",
                quiet,
                seconds(lambda: run(folder / "loaded", profile)),
                SLOWER,
            )
    if only != "run":
        variants = ("standard", "memory", "reasoning")
        alone = sum(seconds(lambda v=v: cognate(folder / f"{v}-alone", profile, v)) for v in variants)
        at_once = seconds(*(lambda v=v: cognate(folder / v, profile, v) for v in variants))
        yield "three cognates, one after another → at once", alone, at_once, 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, say whether the goals are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="micro")
    parser.add_argument("--only", choices=("run", "cognates"), default="")
    chosen = parser.parse_args(arguments)
    met = True
    print(f"{machine.cores():g} cores, {machine.free_cores():g} free; profile {chosen.profile}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for what, before, after, goal in rows(Path(folder), chosen.profile, chosen.only):
            met &= after <= goal * before
            print(
                f"{what}: {before:.1f} s → {after:.1f} s, {after / before:.2f} times (goal ≤ {goal:g})",
                flush=True,
            )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
