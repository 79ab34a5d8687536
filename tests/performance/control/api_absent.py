"""What a control plane that is away costs a phase: nothing, is the claim. One command, one table.

    python tests/performance/control/api_absent.py --rounds 5 --steps 600

Each round lives the trunk of phase cognate (profile micro, more steps) once in a process of its own under each of these:

    alone      nothing is told
    store      told to the store of the run only, a folder
    taken      told to an API that takes all, too
    absent, hanging, 500, 401, reset      told to an API that is so, too

Wall seconds are those of the whole process, and on a busy machine say little. `held up` is what telling itself took of the
phase's own thread: every call from it into the reporter, its beginning and its end, added up; `threads` is the CPU time of
the reporter's threads. The two together over the wall time are the most that telling can have cost. At the end the server's
collector reads each run's store into a fresh database, and counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from components.shared.runtime.artifact import artifact
from components.shared.runtime.code import ROOT
from components.shared.runtime.store.uri import open_store
from components.shared.runtime.tracking import chunks
from pipelines.control.context import opened
from pipelines.control.services.chunks import ChunkReader
from pipelines.control.settings import ControlSettings
from tests.control.pods.made import all_events, new_run
from tests.faulty_api import nowhere, serving

MEASURED = """
import sys, time, threading
from components.shared.runtime.tracking import outlets, reporter, tee
held, cpu, nested = [0.0], [0.0], [0]
def timed(kind, name):
    inner = getattr(kind, name)
    def outer(*given, **named):
        if threading.current_thread() is not threading.main_thread() or nested[0]:
            return inner(*given, **named)
        nested[0], began = 1, time.perf_counter()
        try:
            return inner(*given, **named)
        finally:
            nested[0] = 0
            held[0] += time.perf_counter() - began
    setattr(kind, name, outer)
for name in ("__init__", "__exit__", "open", "trying", "progress", "measured", "note", "failed", "ended"):
    timed(reporter.Reporter, name)
timed(tee.Tee, "_split")
work = outlets.Outlet._tell
def telling(self, **named):
    began = time.thread_time()
    try:
        return work(self, **named)
    finally:
        cpu[0] += time.thread_time() - began
outlets.Outlet._tell = telling
from components.shared.runtime.entry import start
code = start("cognate", "Cognate")
print(f"HELD {held[0]:.6f} {cpu[0]:.6f}", file=sys.__stderr__)
sys.exit(code)
"""

HOWS = ("alone", "store", "taken", "absent", "hanging", "500", "401", "reset")
SERVED = {"taken": 202, "hanging": "hang", "500": 500, "401": 401, "reset": "reset"}


@contextlib.contextmanager
def environment(how: str, root: Path) -> Iterator[dict[str, str]]:
    """What a phase is told under one of the conditions."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FORGE_", "KFP_", "MLFLOW_"))
    }
    clean |= {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "FORGE_TASK": "cognate-trunk",
        "FORGE_PIPELINE_RUN": "r",
    }
    if how == "alone":
        yield clean
        return
    clean["FORGE_RUN_ROOT"] = str(root)
    if how == "store":
        yield clean
        return
    clean["FORGE_RUN_TOKEN"] = "fr_measured"
    if how == "absent":
        yield clean | {"FORGE_API_URL": nowhere()}
        return
    with serving(SERVED[how]) as server:
        yield clean | {"FORGE_API_URL": server.url}


def live(how: str, folder: Path, steps: int) -> tuple[float, float, float, str]:
    """One life: wall seconds, seconds held up, CPU seconds of the reporter's threads; the digest of what it has made."""
    output = folder / "model"
    command = [
        sys.executable, "-c", MEASURED, "--step", "trunk", "--profile", "micro", "--output", str(output),
        f"cognate.trunk.steps={steps}",
    ]  # fmt: skip
    with environment(how, folder / "store") as told:
        began = time.monotonic()
        done = subprocess.run(command, env=told, cwd=folder, capture_output=True, text=True)
        wall = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{how}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    _, held, cpu = done.stderr.splitlines()[-1].split()
    return wall, float(held), float(cpu), artifact.read(output).digest


async def collected(folder: Path) -> tuple[int, int, bool]:
    """Lines in the store, events in the log, and whether they are the same without a gap, from start to end."""
    store = open_store(str(folder / "store" / chunks.FOLDER))
    lines = sum(len(chunks.decode(store.get(entry.key))) for entry in store.list())
    async with opened(ControlSettings(runs=folder / "runs")) as control:
        await new_run(control)
        await ChunkReader(str(folder / "store")).collect(control, "r", everything=True)
        events = await all_events(control)
    dense = [event.n for event in events] == list(range(1, lines + 1))
    return lines, len(events), dense and events[-1].data.get("exit_code") == 0


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    lives: dict[str, list[tuple[float, float, float]]] = {how: [] for how in HOWS}
    digests: dict[str, set[str]] = {how: set() for how in HOWS}
    counts: dict[str, list[tuple[int, int, bool]]] = {how: [] for how in HOWS}
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.rounds):
            order = HOWS if number % 2 == 0 else HOWS[::-1]  # what drifts, drifts for all
            for how in order:
                folder = Path(place) / f"{how}-{number}"
                folder.mkdir()
                *figures, digest = live(how, folder, options.steps)
                lives[how].append(tuple(figures))
                digests[how].add(digest)
                if how != "alone":
                    counts[how].append(asyncio.run(collected(folder)))
                shutil.rmtree(folder)
                wall, held, cpu = figures
                said = f"{how} {wall:.2f} s, held up {1000 * held:.1f} ms, threads {1000 * cpu:.1f} ms of CPU"
                print(f"round {number + 1}: {said}", file=sys.stderr, flush=True)
    print(
        f"{options.rounds} rounds, {options.steps} steps, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}\n"
    )
    print(
        "| API | wall s, median | least | held up, ms (most) | threads, CPU ms (most) | of the wall | digest | events |"
    )
    print("|---|---|---|---|---|---|---|---|")
    same = set().union(*digests.values())
    for how in HOWS:
        walls, held, cpu = zip(*lives[how], strict=True)
        share = max((h + c) / w for w, h, c in lives[how])
        told = counts[how]
        events = "–" if not told else "all" if all(whole for *_, whole in told) else f"MISSING: {told}"
        equal = "the same" if digests[how] == digests["alone"] and len(same) == 1 else "OTHER"
        print(
            f"| {how} | {statistics.median(walls):.2f} | {min(walls):.2f} | {1000 * max(held):.1f} "
            f"| {1000 * max(cpu):.1f} | ≤ {100 * share:.2f} % | {equal} | {events} |"
        )


if __name__ == "__main__":
    main()
