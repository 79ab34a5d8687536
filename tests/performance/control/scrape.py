"""What a scrape costs where the database knows many runs.

    python -m tests.performance.control.scrape [--runs 10000] [--database postgresql://…]

Without a database it makes one of SQLite in a folder that is removed. A look is taken anew for each scrape, which a
server does at most every five seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.exposition import generate_latest
from sqlalchemy import insert

from pipelines.control.context import opened
from pipelines.control.monitoring.exposition import Page
from pipelines.control.monitoring.snapshot import Watcher
from pipelines.control.settings import ControlSettings
from pipelines.control.store.tables import execution, phase_execution, run, series
from pipelines.phases import PHASES

TASKS = 18
LIVING = 20


def rows(runs: int, now: float) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Runs, their executions, and what twenty of them measure."""
    for first in range(0, runs, 1000):
        names = [f"run-{number:06}" for number in range(first, min(runs, first + 1000))]
        yield run, [
            {"id": name, "state": "running" if number < LIVING else "succeeded", "created": now - number,
             "finished": None if number < LIVING else now - number, "profile": "tiny",
             "phases": {phase: {"state": "succeeded", "share": 1.0} for phase in PHASES}}
            for number, name in enumerate(names, first)
        ]  # fmt: skip
        yield execution, [
            {"run": name, "task": f"t{task}", "attempt": 1, "phase": PHASES[task % 8], "profile": "tiny",
             "seconds": 10.0 + task, "succeeded": task != 17, "exit_code": None if task != 17 else 9,
             "finished": now - number}
            for number, name in enumerate(names, first) for task in range(TASKS)
        ]  # fmt: skip
        yield phase_execution, [
            {"run": name, "phase": phase, "profile": "tiny", "seconds": 10.0, "cpu_seconds": 1.0, "memory_bytes": 1,
             "failures": 0, "succeeded": True, "finished": now - number}
            for number, name in enumerate(names, first) for phase in PHASES
        ]  # fmt: skip
        yield series, [
            {"run": name, "task": phase, "name": f"m{metric}", "phase": phase, "step": 1.0, "value": 1.0, "time": now}
            for name in names for phase in PHASES for metric in range(5)
        ]  # fmt: skip


async def measured(database: str, runs: int, scrapes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = ControlSettings(runs=Path(folder), database_url=database)
        async with opened(settings) as control:
            began = time.perf_counter()
            for table, batch in rows(runs, time.time()):
                async with control.database.write() as connection:
                    await connection.execute(insert(table), batch)
            print(f"{runs} runs, {runs * TASKS} executions, written in {time.perf_counter() - began:.1f} s")
            watcher, seconds, busy = Watcher(control), [], time.process_time()
            for _ in range(scrapes):
                watcher._taken = -1e9
                began = time.perf_counter()
                page = generate_latest(Page(await watcher.look(), control.meters.registry.collect()))  # type: ignore[arg-type]
                seconds.append(time.perf_counter() - began)
            busy = time.process_time() - busy
            p95 = statistics.quantiles(seconds, n=20)[-1]
            print(f"a scrape: median {statistics.median(seconds) * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms, "
                  f"CPU of the process {busy / scrapes * 1e3:.0f} ms; {len(page) / 1000:.0f} kB, "
                  f"{page.count(b'agent_forge_metric{')} metrics of living runs")  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--scrapes", type=int, default=40)
    parser.add_argument("--database", default="", help="an empty one")
    given = parser.parse_args()
    asyncio.run(measured(given.database, given.runs, given.scrapes))
