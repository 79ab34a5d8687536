"""Runs from Python: what a notebook, a script and the `forge` command call. It is imported with the package: lightly.

    from pipelines import run
    result = await run("tiny")                      # in a notebook; in a script: run_sync("tiny")
    print(result.ending, result.seconds, result.agent)

`prepare` and `execute` (pipelines/local) are below: they start processes and write events, and no report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .local.execute import Listener, RunResult
    from .local.plan import Plan, RunRequest


def request(
    profile: str | None = None, *, overrides: Sequence[str] = (), register_as: str = "", **more: Any
) -> RunRequest:
    """What is asked for, as a request.

    :param profile: micro, tiny, small or full: configs/profile; tiny where none is given.
    :param overrides: settings, `phase.key=value`.
    :param register_as: the name in MLflow's model registry that the last phase's model gets.
    :param more: the other fields of `RunRequest`: `seed`, `name`, `runs`, `first`, `last`, `base_models`, `resume`,
        `store`, `experiment` …
    """
    from components.shared.runtime.config.literal import literal

    from .local.plan import RunRequest
    from .phases import PHASES, between, remaining

    if register_as:
        run = between(more.get("first", PHASES[0]), more.get("last", PHASES[-1]))
        last = remaining(run, more.get("without", ()))[-1]
        overrides = [*overrides, f"{last}.register_as={literal(register_as)}"]
    more["runs"] = Path(more.get("runs", "runs"))
    return RunRequest(profile=profile or "", overrides=overrides, **more)


async def run(
    profile: str | None = None, *, events: Listener | Sequence[Listener] = (), **asked: Any
) -> RunResult:
    """Run the pipeline on this machine, to its end and its report. Cancelling stops it in good order.

    :param profile: micro, tiny, small or full.
    :param events: called with each event as it happens (`pipelines/runs/events.py`).
    :param asked: see `request`: seed, overrides, first, last, base_models, resume, name, runs …
    :returns: how it ended, also where it failed: `ending`, `state`, `agent`, `error()`.
    :raises ForgeError: something is wrong with what is asked for, or the run could not begin.
    """
    import asyncio

    from .local.execute import execute
    from .local.prepare import prepare

    plan = await asyncio.to_thread(prepare, request(profile, **asked))
    result = await execute(plan, events)
    await asyncio.to_thread(conclude, plan, result)
    return result


def run_sync(profile: str | None = None, **asked: Any) -> RunResult:
    """The same for a script, or a cell that shall wait: see `run`. Ctrl-C stops the run in good order."""
    import asyncio
    import threading

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run(profile, **asked))
    results: list[RunResult | BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(run(profile, **asked)))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=work, name="run")
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def conclude(plan: Plan, result: RunResult, say: Callable[[str], None] = print) -> Path:
    """What follows a run: its MLflow run is ended, and its report written. The report's path."""
    from .report import page
    from .runs import mlflow_run

    environment = plan.options.environment
    closing = mlflow_run.start_closing(
        environment["MLFLOW_TRACKING_URI"],
        result.folder.name,
        result.ending,
        {"seconds": result.seconds},
        environment,
    )
    report = page.write(result.folder.path)
    mlflow_run.wait(closing, say)
    return report
