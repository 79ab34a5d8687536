"""How long an image of a phase takes to start, in its container: the figures of images/README.md.

    python -m tests.performance.image_start [PHASE…]

Wall time depends on what else the machine does; the CPU seconds are the process's own.
"""

from __future__ import annotations

import subprocess
import sys
import time

from components.shared.image import image
from pipelines.phases import PHASES
from tests.image.run_pipeline_in_containers import LOCKED

SPENT = (
    "import resource; used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)"
)
LOADED = "import components.shared.runtime.executor, components.{phase}.phase; " + SPENT
HELP = (
    "import runpy, sys; sys.argv = ['phase', '--help']\n"
    "try: runpy.run_module('components.{phase}', run_name='__main__')\n"
    "except SystemExit: pass\n" + SPENT
)


def timed(phase: str, code: str) -> tuple[float, float]:
    """Wall and CPU seconds of a container that runs `code`."""
    command = ["podman", "run", *LOCKED, "--network=none", image(phase), "-c", code.format(phase=phase)]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.monotonic() - started, float(done.stdout.split()[-1])


def main() -> None:
    """One line a phase: the bare container, its help, and all that it imports."""
    print(f"{'':12} {'bare':>14} {'--help':>14} {'all loaded':>14}   (seconds wall / CPU)")
    for phase in sys.argv[1:] or PHASES:
        timed(phase, LOADED)  # the page cache is warm from here on, as on a node that has run a pod before
        figures = [timed(phase, code) for code in (SPENT, HELP, LOADED)]
        print(f"{phase:12} " + " ".join(f"{wall:6.1f} / {cpu:5.2f}" for wall, cpu in figures), flush=True)


if __name__ == "__main__":
    main()
