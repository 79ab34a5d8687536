"""The controller is killed with -9 in each phase of a run: how soon the run is taken up, whether its digests stay the same.

    python -m tests.performance.control.controller_killed                    # 8 phases × 3 runs, of profile micro
    python -m tests.performance.control.controller_killed --runs 1 --last quietstar
    python -m tests.performance.control.controller_killed --alone            # nobody stands by
    python -m tests.performance.control.controller_killed --paused           # SIGSTOP for 30 s, with a second controller

A reference run goes undisturbed. In each further run, when a phase has begun, the controller is killed, every other time
the run's own process with it, as when a container or a machine goes. A second controller stands by; without one
(`--alone`) another is started at once, and its start counts. Taken up means: the run has a new epoch, and, where its
process was killed, a new process.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.control.auth.rights import Principal
from pipelines.control.context import Control, opened
from pipelines.control.services.local_carrier import row_now
from pipelines.control.services.planning import Asked
from pipelines.control.services.processes import process_of
from pipelines.control.services.submission import submitted
from pipelines.control.services.transitions import OVER
from pipelines.control.settings import ControlSettings
from pipelines.control.store.events import page
from pipelines.phases import PHASES, between
from pipelines.runs.folder import RunFolder

WHO = Principal("bench", "Bench", "admin")
LIMIT = 20.0


@dataclass
class Kill:
    """One trial.

    :param seconds: from the kill to the take-over.
    """

    run: str
    phase: str
    what: str
    seconds: float


@dataclass
class Bench:
    """The control plane under test.

    :param controllers: the processes that were started, the newest last.
    """

    control: Control
    runs: Path
    last: str
    alone: bool = False
    controllers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Another controller."""
        command = [sys.executable, "-m", "pipelines.cli", "control", "--role", "controller", "--port", "0"]
        with (self.runs.parent / "controllers.log").open("ab") as output:
            self.controllers.append(
                subprocess.Popen([*command, "--runs", str(self.runs)], stdout=output, stderr=output)
            )

    def holder(self, row: Any) -> subprocess.Popen[bytes]:
        """The controller that holds a run: its number is in its name."""
        return next(process for process in self.controllers if f"-{process.pid}-" in row["holder"])

    async def ask(self, name: str) -> None:
        """Put a run into the queue."""
        asked = Asked(profile="micro", end_phase=self.last, cache=False, name=name)  # type: ignore[arg-type]
        await submitted(self.control, WHO, asked)

    async def row(self, name: str) -> Any:
        """The run as it is."""
        return await row_now(self.control, name)

    async def over(self, name: str) -> str:
        """How the run has ended, when it has."""
        while (row := await self.row(name))["state"] not in OVER:
            await asyncio.sleep(0.25)
        return str(row["state"])

    def digests(self, name: str) -> dict[str, dict[str, str]]:
        """Of the models of each task; what tells of times, as the report does, differs in any two runs."""
        return {
            status.task: {key: digest for key, digest in status.digests.items() if key != "metrics"}
            for status in RunFolder(self.runs / name).tasks()
            if status.digests and status.phase
        }


async def killed(bench: Bench, name: str, *, with_process: bool) -> list[Kill]:
    """One run, disturbed once in each phase."""
    await bench.ask(name)
    trials: list[Kill] = []
    done: set[str] = set()
    while (row := await bench.row(name))["state"] not in OVER:
        begun = [phase for phase, own in row["phases"].items() if own["state"] == "running"]
        phase = next((phase for phase in begun if phase not in done), "")
        if not phase:
            await asyncio.sleep(0.1)
            continue
        done.add(phase)
        process = process_of(row["process"])
        holder = bench.holder(row)
        holder.kill()
        holder.wait()
        if with_process and process is not None:
            process.send(signal.SIGKILL)
        began = time.monotonic()
        if bench.alone:
            bench.start()
        while True:
            now = await bench.row(name)
            fresh = not with_process or now["process"].get("pid") != (process.pid if process else 0)
            if (now["epoch"] > row["epoch"] and fresh) or now["state"] in OVER:
                break
            await asyncio.sleep(0.05)
        what = "controller and run" if with_process else "controller"
        trials.append(Kill(name, phase, what, time.monotonic() - began))
        print(f"  {phase}: {what} killed, taken up after {trials[-1].seconds:.1f} s", flush=True)
        with_process = not with_process
        if not bench.alone:
            bench.start()
    return trials


async def paused(bench: Bench, name: str, seconds: float) -> str:
    """One run whose holder is stopped for a while, with another controller beside it."""
    await bench.ask(name)
    while (await bench.row(name))["state"] != "running":
        await asyncio.sleep(0.1)
    holder = bench.holder(await bench.row(name))
    before = (await bench.row(name))["epoch"]
    holder.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    taken = await bench.row(name)
    holder.send_signal(signal.SIGCONT)
    state = await bench.over(name)
    events: list[Any] = []
    while batch := await page(bench.control.database, name, events[-1].seq if events else 0):
        events += batch
    numbers = [event.n for event in events if event.producer == "folder"]
    dense = [event.seq for event in events] == list(range(1, len(events) + 1))
    once = sorted(numbers) == list(range(1, max(numbers) + 1))
    return (
        f"paused {seconds:g} s: epoch {before} → {taken['epoch']}, {state}, {len(events)} events, dense: {dense}, "
        f"each of the folder's {len(numbers)} once: {once}, processes: {taken['process'].get('starts')}"
    )


async def main() -> int:
    """Run the trials, and print what came of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--last", default=PHASES[-1])
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--paused", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        runs = Path(folder) / "runs"
        runs.mkdir()
        async with opened(ControlSettings(runs=runs)) as control:
            bench = Bench(control, runs, options.last, options.alone)
            for _ in range(1 if options.alone else 2):
                bench.start()
            try:
                if options.paused:
                    print(await paused(bench, "paused", 30.0))
                    return 0
                await bench.ask("reference")
                print("reference:", await bench.over("reference"), flush=True)
                expected = bench.digests("reference")
                trials: list[Kill] = []
                same = 0
                for number in range(options.runs):
                    name = f"killed-{number}"
                    trials += await killed(bench, name, with_process=number % 2 == 1)
                    state = await bench.over(name)
                    found = bench.digests(name)
                    others = [task for task in {**expected, **found} if expected.get(task) != found.get(task)]
                    same += not others and state == "succeeded"
                    print(f"{name}: {state}, digests differ in: {', '.join(others) or 'none'}", flush=True)
                return said(trials, same, options)
            finally:
                for process in bench.controllers:
                    process.kill()


def said(trials: list[Kill], same: int, options: argparse.Namespace) -> int:
    """Print the table; the exit code."""
    print("\n| phase | killed | taken up after, s |\n|---|---|---|")
    for phase in between(PHASES[0], options.last):
        for trial in (one for one in trials if one.phase == phase):
            print(f"| {phase} | {trial.what} | {trial.seconds:.1f} |")
    soon = sum(trial.seconds <= LIMIT for trial in trials)
    print(
        f"\n{soon} of {len(trials)} taken up within {LIMIT:g} s; {same} of {options.runs} runs with the same digests"
    )
    return 0 if soon == len(trials) and same == options.runs else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
