"""How long commands take to answer: the best and the median of several starts, of which the first, cold one is left out.

    python -m tests.performance.command_start [--starts 5]

The goals: `forge --help` half a second, `forge status` of a run that has ended one second.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("--help", "phase bitnet --help", "run-pipeline --help", "validate")
STATUS = "status"
"""Measured where there is a run in runs/."""


def seconds(arguments: list[str], starts: int) -> list[float]:
    """Wall seconds of so many starts."""
    spent = []
    for _ in range(starts + 1):
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "pipelines.cli", *arguments], capture_output=True, check=True)
        spent.append(time.monotonic() - began)
    return spent[1:]


def main() -> None:
    """One line a command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", type=int, default=5)
    starts = parser.parse_args().starts
    for command in [*COMMANDS, *([STATUS] if any(Path("runs").glob("*/run.json")) else [])]:
        spent = seconds(command.split(), starts)
        print(f"forge {command:24} {min(spent):6.2f} s {statistics.median(spent):6.2f} s")


if __name__ == "__main__":
    main()
