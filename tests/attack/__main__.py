"""`make attack`: a thousand hostile attempts on this project, bounded in time, and seeded.

    python -m tests.attack                                  # ten minutes, all classes
    python -m tests.attack --seed 7 --minutes 2 --classes damage,inputs
    python -m tests.attack --seed 7 --only damage:113       # exactly this attempt again

Ends with 1 on any loss, hang or traceback. What is random comes from the seed, the class and the attempt's number; the
moment of a kill is so many milliseconds after a start, which no two machines spend alike.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from components.shared.runtime.errors import Interrupted
from tests.attack.attempt import SUBREAPER
from tests.attack.campaign import Campaign, in_turn, table

WARM = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.attack", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="no attempt goes on longer, as far as one can tell"
    )
    parser.add_argument("--classes", default="", help="some of them, with commas between (default: all)")
    parser.add_argument(
        "--attempts", type=int, default=0, help="of all classes together (default: COUNT of each)"
    )
    parser.add_argument("--only", default="", metavar="CLASS:NUMBER", help="one attempt")
    parser.add_argument("--jobs", type=int, default=1 + (os.cpu_count() or 1), help="side by side")
    parser.add_argument("--keep", action="store_true", help="the folders of attempts that were survived too")
    options = parser.parse_args()
    began = time.monotonic()
    os.environ.update(dict.fromkeys(WARM, "1"))
    from tests.attack.classes.registry import CLASSES  # torch and all: seconds, spent once

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Interrupted.exit_code))  # and no attempt lives on
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    only = options.only.partition(":")
    names = [only[0]] if only[0] else [name for name in options.classes.split(",") if name] or list(CLASSES)
    if unknown := sorted(set(names) - set(CLASSES)):
        parser.error(f"there is no class {', '.join(unknown)}; there are {', '.join(CLASSES)}")
    whole = sum(CLASSES[name].COUNT for name in names)
    counts = {
        name: max(1, round((options.attempts or whole) * CLASSES[name].COUNT / whole)) for name in names
    }
    attempts = [(only[0], int(only[2]))] if only[0] else list(in_turn(counts))
    folder = Path(tempfile.mkdtemp(prefix="forge-attack-"))

    def say(text: str) -> None:
        print(text, flush=True)

    campaign = Campaign(CLASSES, options.seed, folder, options.jobs, options.keep, say)
    try:
        ready = campaign.prepare(names)
        attempts = [(name, number) for name, number in attempts if name in ready]
        say(f"seed {options.seed}: {len(attempts)} attempts, ready after {time.monotonic() - began:.0f} s")
        tally = campaign.run(attempts, began + 60 * options.minutes)
    finally:
        campaign.close()
    say(f"\n{table(tally, names)}\n{time.monotonic() - began:.0f} s")
    if tally.failed or options.keep:
        say(f"the attempts' folders: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    untried = [name for name in names if not tally.tried[name]]
    if untried:
        say(f"not tried: {', '.join(untried)}")
    return int(bool(tally.failed or untried))


if __name__ == "__main__":
    sys.exit(main())
