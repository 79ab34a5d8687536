"""The runner with a toy pipeline of three tasks, one of which is slow and keeps a checkpoint."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import LostRace
from pipelines.cli.runs import run_pipeline
from pipelines.local.cache_key import content_digest
from pipelines.local.plan import RunRequest
from pipelines.local.prepare import prepare as planned
from tests.attack.attempt import TRACE, Bench, Loss, read_text, refusal
from tests.attack.classes.processes import Process, stopped

ENDINGS = {"succeeded": 0, "failed": 9, "interrupted": 75}
PIPELINE = "toy.yaml"
LOCKED = 20.0
"""Seconds that tasks of a killed runner may hold the run, whose own work takes less than one."""


def prepare(bench: Bench) -> str:
    """Compile the pipeline, and run it undisturbed."""
    from kfp import compiler

    from tests.attack.classes.toy_pipeline import attacked

    compiler.Compiler().compile(attacked, str(bench.inside / PIPELINE))
    runs = bench.inside / "runs"
    if run(bench.inside / PIPELINE, runs, name="first") != 0:
        raise Loss("the toy pipeline failed undisturbed")
    return "ready"


def run(pipeline: Path, runs: Path, *, name: str = "", resume: str = "", **more: Any) -> int:
    """What `forge run-pipeline` does, without its table, report and MLflow; its exit code."""
    named: dict[str, Any] = {"resume": resume} if resume else {"name": name, "pipeline": pipeline}
    try:
        return carried_out(RunRequest(runs=runs, slots=2, grace=5.0, **named, **more))
    except Exception as error:
        if ours := refusal(error):
            print(f"error: {ours}")
            return ours.exit_code
        raise


def carried_out(request: RunRequest) -> int:
    """Plan and run; the exit code."""
    return ENDINGS[asyncio.run(run_pipeline._run(planned(request), None, None)).ending]


def results(runs: Path, name: str) -> Mapping[str, str]:
    """Of each task of a run: the digest of its output."""
    return {
        path.parent.name: content_digest(path, verify=True)
        for path in sorted((runs / name).glob("artifacts/*/out"))
        if not path.name.startswith(".")
    }


def outputs(runs: Path, name: str) -> Mapping[str, str]:
    """Of each model of a run of our pipeline: its digest."""
    return {
        str(path.parent.relative_to(runs)): content_digest(path.parent, verify=True)
        for path in sorted((runs / name / "artifacts").rglob("forge.json"))
    }


def expected(bench: Bench) -> Mapping[str, str]:
    """The results of the undisturbed run."""
    return results(bench.shared / "runs", "first")


def killed(bench: Bench, number: signal.Signals) -> str:
    """The runner, up to three times; it must be possible to go on at once after SIGTERM, and soon after SIGKILL."""
    pipeline, runs, log = bench.copy(PIPELINE), bench.inside / "runs", bench.inside / "runner.txt"
    options: dict[str, Any] = {"store": str(bench.inside / "store")} if bench.rng.random() < 0.3 else {}
    moments = []
    for _ in range(bench.rng.randint(1, 3)):
        process = Process(lambda: started(pipeline, runs, **options), log)
        moments.append(bench.rng.uniform(0, 1.5))
        time.sleep(moments[-1])
        process.send(number)
        code = process.end()
        if TRACE in read_text(log):
            print(read_text(log))
            return "a trace of the runner"
        if number == signal.SIGKILL:
            _wait_for_orphans(runs)
        elif code != 0:
            stopped(code)
    Process(lambda: started(pipeline, runs, **options), log).checked(0)
    complete(bench, runs)
    return f"runner, {number.name} after {', '.join(f'{moment:.3f}' for moment in moments)} s"


def started(pipeline: Path, runs: Path, **options: Any) -> int:
    """The run, from its beginning or from where it was left."""
    if (runs / "run" / "run.json").is_file():
        return run(pipeline, runs, resume="run", **options)
    return run(pipeline, runs, name="run", **options)


def complete(bench: Bench, runs: Path, name: str = "run") -> None:
    """The run's results are those of the undisturbed one, and it says that it succeeded.

    :raises Loss: they are not.
    """
    from pipelines.runs.folder import RunFolder

    if (found := results(runs, name)) != expected(bench):
        raise Loss(f"results differ: {found} in place of {expected(bench)}")
    folder = RunFolder(runs / name)
    status = {task.task: task.status for task in folder.tasks()}
    if folder.read().status != "succeeded" or not set(status.values()) <= {"succeeded", "cached"}:
        raise Loss(f"it ended well and says {folder.read().status}, {status}")
    if folder.active():
        raise Loss("its lock is held after its end")


def _wait_for_orphans(runs: Path) -> None:
    """Tasks of a killed runner live on for a moment, and hold the run.

    :raises Loss: for too long.
    """
    from pipelines.runs.folder import RunFolder

    until = time.monotonic() + LOCKED
    while RunFolder(runs / "run").active():
        if time.monotonic() > until:
            raise Loss(f"the run is locked {LOCKED:.0f} s after its runner was killed ({LostRace.exit_code})")
        time.sleep(0.05)
