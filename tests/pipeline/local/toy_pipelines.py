"""Toy pipelines: real KFP container components whose container is a few lines of Python."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kfp import compiler, dsl
from kfp.dsl import Artifact, Input, Output

from pipelines.ir import reader
from pipelines.ir.values import complete
from pipelines.local.cache import Depot
from pipelines.local.process import Launcher
from pipelines.local.scheduler import Runner
from pipelines.local.task import Options
from pipelines.runs.folder import RunFolder, Status

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


@dataclass
class Bench:
    """Compiles toy pipelines and runs them below one runs folder."""

    runs: Path
    said: list[str] = field(default_factory=list)
    edit: Callable[[str], str] = str

    def compile(self, pipeline: Any) -> Path:
        path = self.runs.parent / f"{pipeline.name}.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        path.write_text(self.edit(path.read_text()))
        return path

    def runner(
        self,
        pipeline: Any,
        name: str = "run",
        *,
        store: str = "",
        launcher: Any = None,
        parameters: Any = None,
        **options: Any,
    ) -> Runner:
        loaded = reader.load(self.compile(pipeline))
        given = complete(parameters or {}, loaded.root.parameters, "test")
        chosen = Options(**{"slots": 4, "grace": 5.0, **options})
        folder = RunFolder(self.runs / name)
        launcher = launcher or Launcher(chosen.slots)
        return Runner(loaded, folder, Depot(self.runs, store), launcher, given, chosen, self.said.append)

    def run(self, pipeline: Any, name: str = "run", **options: Any) -> str:
        async def whole() -> str:
            return await self.runner(pipeline, name, **options).run()

        return asyncio.run(whole())

    def statuses(self, name: str = "run") -> dict[str, Status]:
        return {status.task: status for status in RunFolder(self.runs / name).tasks()}

    def text(self, task: str, name: str = "run") -> str:
        return (self.runs / name / "artifacts" / task / "out").read_text()
