"""How long `forge dashboard` takes until it answers: wall time, and processor time, which other work does not change.

python -m tests.performance.control.start --times 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time


def started(runs: str) -> tuple[float, float]:
    """Seconds until the link is printed, and processor seconds until then."""
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "dashboard",
        "--no-browser",
        "--port",
        "0",
        "--runs",
        runs,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "the page: " in line:
                break
        took = time.monotonic() - began
        with open(f"/proc/{process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        process.terminate()
    return took, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs:
        measured = [started(runs) for _ in range(options.times)]
    load = os.getloadavg()[0]
    print(
        f"first start {measured[0][0]:.1f} s, then median {statistics.median(took for took, _ in measured):.1f} s"
    )
    print(
        f"processor time, median {statistics.median(cpu for _, cpu in measured):.1f} s; load average {load:.1f}"
    )


if __name__ == "__main__":
    main()
