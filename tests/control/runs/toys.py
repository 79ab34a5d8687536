"""Runs of toy pipelines: real processes, a second long, with files by which a test tells them to go on."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from kfp import dsl

from pipelines.ir import reader
from pipelines.ir.values import complete
from pipelines.runs.folder import RunFolder, RunStatus
from tests.pipeline.local.toy_pipelines import Bench, append, run_code, write

PATIENT = """
import os, pathlib, signal, sys, time
gate = pathlib.Path(os.environ['FORGE_CHECKPOINTS']).parents[3] / 'gate'
def stop(*_):
    (gate.parent / 'checkpointed').touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
(gate.parent / 'begun').touch()
until = time.time() + 60
while not gate.exists() and time.time() < until:
    time.sleep(0.02)
say('patient')
"""
"""A task that waits for the file `gate` beside the runs, and writes a checkpoint, of a kind, when it is stopped."""


@dsl.pipeline(name="patient")
def patient():
    first = write(text="a")
    waits = run_code(code=PATIENT).after(first)
    append(before=waits.outputs["out"], text="!")


@dsl.pipeline(name="quick")
def quick():
    append(before=write(text="a").outputs["out"], text="b")


def toy_run(runs: Path, pipeline: object, name: str, *, slots: int = 2) -> RunFolder:
    """The folder of a run that was prepared and stopped before it began: it can be gone on with."""
    runs.mkdir(parents=True, exist_ok=True)
    path = Bench(runs).compile(pipeline)
    loaded = reader.load(path)
    folder = RunFolder(runs.absolute() / name)
    folder.path.mkdir()
    folder.pipeline.write_text(loaded.text)
    values = complete({}, loaded.root.parameters, "test")
    now = time.time() - 60
    folder.write(
        RunStatus(name, "interrupted", started=now, finished=now, parameters=values, slots=slots, cache=False)
    )
    return folder


async def until(true: Callable[[], Awaitable[object]] | Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = true()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come to be")


def digests(folder: RunFolder) -> dict[str, dict[str, str]]:
    return {status.task: status.digests for status in folder.tasks()}
