"""What the runner itself costs: a chain of toy tasks that do nothing, against the same processes started by hand.

    python tests/performance/runner_overhead.py [TASKS]

The overhead of a task is the wall time of the run, without what the processes took, over the number of tasks. Printed
are also how long `prepare` takes, and a run in which everything comes from the cache.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kfp import dsl

from pipelines.local.execute import execute
from pipelines.local.plan import RunRequest
from pipelines.local.prepare import prepare
from tests.pipeline.local.toy_pipelines import START, Bench, append, write


def chain(tasks: int):
    """A pipeline of so many tasks, one behind the other."""

    @dsl.pipeline(name="chain")
    def pipeline():
        last = write(text="a")
        for _ in range(tasks - 1):
            last = append(before=last.output, text="b")

    return pipeline


def by_hand() -> float:
    """Seconds of a process that does as much as a task's, outside any runner."""
    began = time.perf_counter()
    for _ in range(5):
        code = START.replace(
            "sys.argv[1]", '\'{"inputs": {"parameterValues": {}}, "outputs": {"artifacts": {}}}\''
        )
        subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - began) / 5


def main(tasks: int = 20) -> None:
    """Run the chain twice and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "runs")
        bench.runs.mkdir()
        path = bench.compile(chain(tasks))
        for name in ("first", "cached"):
            began = time.perf_counter()
            plan = prepare(RunRequest(runs=bench.runs, name=name, pipeline=path))
            prepared = time.perf_counter() - began
            result = asyncio.run(execute(plan))
            took = time.perf_counter() - began - prepared
            assert result.ending == "succeeded"
            inside = sum(task.seconds for task in result.state.tasks)
            print(
                f"{name}: {tasks} tasks, prepare {prepared:.2f} s, run {took:.2f} s, "
                f"processes {inside:.2f} s, overhead {1000 * (took - inside) / tasks:.0f} ms a task"
            )
        print(f"a process by hand: {1000 * by_hand():.0f} ms")


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:]))
