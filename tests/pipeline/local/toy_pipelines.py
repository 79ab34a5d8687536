"""Toy pipelines: real KFP container components whose container is a few lines of Python."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kfp import compiler, dsl
from kfp.dsl import Artifact, Input, Output

from pipelines.ir import reader
from pipelines.ir.values import complete
from pipelines.local.cache import ArtifactCache
from pipelines.local.options import RunOptions
from pipelines.local.processes.pool import ProcessPool
from pipelines.local.scheduler import Scheduler
from pipelines.local.task import TaskRunner
from pipelines.runs.events import LogEvent
from pipelines.runs.folder import RunFolder, TaskStatus
from pipelines.runs.log import EventLog, EventReader

START = """
import json, os, pathlib, sys, time
given = json.loads(sys.argv[1])
values = given["inputs"]["parameterValues"]
inputs = {k: [pathlib.Path(a["uri"]) for a in v["artifacts"]] for k, v in given["inputs"].get("artifacts", {}).items()}
outputs = {k: pathlib.Path(v["artifacts"][0]["uri"]) for k, v in given["outputs"]["artifacts"].items()}
def say(text): outputs["out"].write_text(text)
"""


def toy(code: str) -> Any:
    """A container that runs `code` after START, with KFP's executor input as its argument."""
    return dsl.ContainerSpec(image="toy", command=["python"], args=["-c", START + code, "{{$}}"])


@dsl.container_component
def write(text: str, out: Output[Artifact]):
    """Writes its text."""
    return toy("say(values['text'])")


@dsl.container_component
def append(before: Input[Artifact], text: str, out: Output[Artifact]):
    """Writes its input's text and its own."""
    return toy("say(inputs['before'][0].read_text() + values['text'])")


@dsl.container_component
def join(parts: Input[list[Artifact]], out: Output[Artifact]):
    """Writes the texts of all parts, in order."""
    return toy("say('+'.join(p.read_text() for p in inputs.get('parts', [])))")


@dsl.container_component
def fail(text: str, out: Output[Artifact]):
    """Ends with exit code 3."""
    return toy("print('it broke'); sys.exit(3)")


@dsl.container_component
def run_code(code: str, out: Output[Artifact]):
    """Runs the code that it is given."""
    return toy("exec(values['code'])")


class ToyRun:
    """A pipeline under way, without a plan: the scheduler and what runs its tasks."""

    def __init__(self, scheduler: Scheduler, tasks: TaskRunner) -> None:
        self.scheduler = scheduler
        self.tasks = tasks
        self.stop = tasks.stop

    async def run(self) -> str:
        lacking = await self.scheduler.run()
        if self.tasks.stopping.is_set() and lacking:
            return "interrupted"
        return "failed" if lacking and lacking.why != "left out" else "succeeded"


@dataclass
class Bench:
    """Compiles toy pipelines and runs them below one runs folder."""

    runs: Path
    edit: Callable[[str], str] = str

    def compile(self, pipeline: Any) -> Path:
        path = self.runs.parent / f"{pipeline.name}.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        path.write_text(self.edit(path.read_text()))
        return path

    def command(self, pipeline: Any, name: str) -> list[str]:
        """How the forge command runs it, in a process of its own."""
        options = {"--runs": self.runs, "--name": name, "--pipeline": self.compile(pipeline)}
        words = [str(word) for option in options.items() for word in option]
        return [sys.executable, "-m", "pipelines.cli", "run-pipeline", *words]

    def runner(
        self,
        pipeline: Any,
        name: str = "run",
        *,
        store: str = "",
        processes: Any = None,
        parameters: Any = None,
        **options: Any,
    ) -> ToyRun:
        loaded = reader.load(self.compile(pipeline))
        values = complete(parameters or {}, loaded.root.parameters, "test")
        chosen = RunOptions(**{"slots": 4, "grace": 5.0, **options})
        folder = RunFolder(self.runs / name)
        tasks = TaskRunner(
            folder,
            ArtifactCache(self.runs, store),
            processes or ProcessPool(chosen.slots),
            chosen,
            EventLog(folder.events, name),
        )
        return ToyRun(Scheduler(loaded, values, tasks), tasks)

    def run(self, pipeline: Any, name: str = "run", **options: Any) -> str:
        async def whole() -> str:
            return await self.runner(pipeline, name, **options).run()

        return asyncio.run(whole())

    def statuses(self, name: str = "run") -> dict[str, TaskStatus]:
        return {status.task: status for status in RunFolder(self.runs / name).tasks()}

    def text(self, task: str, name: str = "run") -> str:
        return (self.runs / name / "artifacts" / task / "out").read_text()

    def said(self, name: str = "run") -> list[str]:
        """What the runner had to say, each line behind its task."""
        events = EventReader(RunFolder(self.runs / name).events).read()
        return [
            f"{event.task}: {line}"
            for event in events
            if isinstance(event, LogEvent) and event.data.source == "runner"
            for line in event.data.lines
        ]
