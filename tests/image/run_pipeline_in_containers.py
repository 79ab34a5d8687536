"""Runs a compiled pipeline by podman, each task in a container as a pod of KFP has it, and prints what each published.

    python -m tests.image.run_pipeline_in_containers --profile micro

The root is read-only, the user 65532 without a passwd entry from outside, no capability is left, nothing but a store on
the loopback can be reached, and memory has a limit. As KFP's launcher does, each task gets its inputs copied to /minio,
an executor input of the form that was recorded from it, and has its outputs copied away.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from pipelines.ir import reader
from pipelines.ir.spec import Component, Constant, Container, FromParent, FromTask, Task
from pipelines.ir.values import complete, typed
from pipelines.phases import COMPILED
from pipelines.settings import as_parameters, composed
from tests.image.store_island import BUCKET, Island, store_island

USER = 65532
ROOT = f"{BUCKET}/v2/artifacts"
SESSION = {"Provider": "minio", "Params": {"endpoint": "minio-service.kubeflow:9000", "fromEnv": "false"}}
LOCKED = [
    "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,nosuid,nodev,size=1g", f"--user={USER}:{USER}",
    "--passwd=false", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--http-proxy=false", "--pull=never",
    "--rm", "--entrypoint=python",
]  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A task that has ended well: its readable name, digests by output, and how long its container lived."""

    task: str
    digests: Mapping[str, str]
    seconds: float


@dataclass
class Cluster:
    """The store as a folder, and how containers are started.

    :param memory: limit of each container.
    """

    folder: Path
    island: Island
    memory: str = "3g"
    engine: str = "podman"
    run: str = field(default_factory=lambda: str(uuid.uuid4()))
    uris: dict[tuple[str, str], str] = field(default_factory=dict)
    metadata: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def pipeline(self, text: str, given: Mapping[str, Any]) -> Iterator[Ended]:
        """Every task of a compiled pipeline that has neither loops nor nested pipelines, in an order that it allows."""
        pipeline = reader.parse(text)
        spec = next(iter(yaml.safe_load_all(text)))
        values = complete(given, pipeline.root.parameters, "the pipeline's parameters")
        tasks = pipeline.root.body.tasks  # type: ignore[union-attr]
        for name in TopologicalSorter({name: task.needs for name, task in tasks.items()}).static_order():
            task = tasks[name]
            component = pipeline.components[task.component]
            if task.iterator or not isinstance(component.body, Container):
                raise ValueError(f"{name} is no container task: a loop, a nested pipeline or an importer")
            label = spec["components"][task.component]["executorLabel"]
            image = spec["deploymentSpec"]["executors"][label]["container"]["image"]
            yield self.task(pipeline.name, task, component, component.body, image, values)

    def task(
        self,
        pipeline: str,
        task: Task,
        component: Component,
        container: Container,
        image: str,
        values: Mapping[str, Any],
    ) -> Ended:
        """One pod: launcher's preparation, the container, and what the launcher does after it."""
        request = self.executor_input(pipeline, task, component, values)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            pod = Path(folder, "minio")
            for one in _artifacts(request["inputs"]):
                copy(self.folder / _key(one["uri"]), pod / _key(one["uri"]))
            for one in _artifacts(request["outputs"]):
                (pod / _key(one["uri"])).parent.mkdir(parents=True, exist_ok=True)
            _give_to(USER, pod)
            arguments = [text.replace("{{$}}", json.dumps(request)) for text in container.arguments]
            environment = {
                "FORGE_TASK": task.label,
                "FORGE_PIPELINE_RUN": self.run,
                **self.island.environment,
            }
            started = time.monotonic()
            self.container(image, arguments, environment, pod)
            seconds = time.monotonic() - started
            return Ended(task.label, dict(self._collect(task.name, request, pod)), seconds)

    def executor_input(
        self, pipeline: str, task: Task, component: Component, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What KFP 2.17's driver and launcher hand over, executor-logs included."""
        given = {}
        for name, source in task.parameters.items():
            if isinstance(source, FromTask):
                raise ValueError(f"{task.name}: no task here writes parameters")
            value = source.value if isinstance(source, Constant) else values.get(source.name)
            if value is not None and name in component.parameters:
                given[name] = typed(value, component.parameters[name].type, name)
        prefix = f"minio://{ROOT}/{pipeline}/{self.run}/{task.name}/{uuid.uuid4()}"
        inputs = {name: [self._stored(source)] for name, source in task.artifacts.items()}
        outputs = {
            "executor-logs": _artifact("executor-logs", "system.Artifact", f"{prefix}/executor-logs-0")
        }
        for name, slot in component.output_artifacts.items():
            outputs[name] = _artifact(name, slot.type, f"{prefix}/{name}")
            self.uris[task.name, name] = f"{prefix}/{name}"
        return {
            "inputs": {
                "artifacts": {name: {"artifacts": found} for name, found in inputs.items()},
                "parameterValues": complete(given, component.parameters, task.name),
            },
            "outputs": {
                "artifacts": {name: {"artifacts": [one]} for name, one in outputs.items()},
                "outputFile": f"/minio/{_key(prefix)}/output_metadata.json",
            },
        }

    def container(
        self, image: str, arguments: list[str], environment: Mapping[str, str], minio: Path
    ) -> None:
        """Start a container and wait for its end.

        :raises RuntimeError: it ended with another code than 0; with its last lines.
        """
        settings = [f"--env={name}={value}" for name, value in environment.items()]
        place = [
            f"--memory={self.memory}",
            f"--network=ns:/run/netns/{self.island.name}",
            f"--volume={minio}:/minio",
        ]
        command = [self.engine, "run", *LOCKED, *place, *settings, image, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            tail = "\n".join(done.stdout.splitlines()[-30:])
            raise RuntimeError(f"{image} {' '.join(arguments[:4])} ended with {done.returncode}:\n{tail}")

    def _collect(self, task: str, request: Mapping[str, Any], pod: Path) -> Iterator[tuple[str, str]]:
        """Copy the outputs away, and give the digests of those that have a manifest."""
        told = pod / _key(request["outputs"]["outputFile"][1:])  # KFP does without, as for the report
        written = json.loads(told.read_text())["artifacts"] if told.is_file() else {}
        for name, group in request["outputs"]["artifacts"].items():
            place = pod / _key(group["artifacts"][0]["uri"])
            if name == "executor-logs":
                continue
            copy(place, self.folder / _key(group["artifacts"][0]["uri"]))
            self.metadata[task, name] = written.get(name, {"artifacts": [{}]})["artifacts"][0].get(
                "metadata", {}
            )
            if (place / "forge.json").is_file():
                yield name, str(json.loads((place / "forge.json").read_text())["digest"])

    def _stored(self, source: FromParent | FromTask) -> dict[str, Any]:
        if isinstance(source, FromParent):
            raise ValueError(f"{source.name}: the pipeline takes an artifact, and there is none")
        known = (source.task, source.key)
        metadata = {
            **self.metadata[known],
            "display_name": source.key,
            "store_session_info": json.dumps(SESSION),
        }
        number = str(10 + len(self.uris))
        return {"name": number, "type": {"instanceSchema": ""}, "uri": self.uris[known], "metadata": metadata}


def copy(source: Path, target: Path) -> None:
    """A file or a folder, with the folders above it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _artifact(name: str, kind: str, uri: str) -> dict[str, Any]:
    schema = (
        {"schemaTitle": kind}
        if kind == "system.Artifact"
        else {"schemaTitle": kind, "schemaVersion": "0.0.1"}
    )
    return {"name": name, "type": schema, "uri": uri}


def _artifacts(side: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for group in side["artifacts"].values() for one in group["artifacts"]]


def _key(uri: str) -> str:
    """Where an address lies below the folder that stands for all buckets: the launcher's /minio."""
    return uri.removeprefix("minio://").removeprefix("minio/")


def _give_to(user: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder.parent, folder, *folder.rglob("*")):
        os.chown(path, user, user)


def main(say: Callable[[str], None] = print) -> int:
    """The compiled pipeline with the given parameters, to its end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipeline", type=Path, default=COMPILED)
    parser.add_argument("--profile", default="micro")
    parser.add_argument("--store", type=Path, required=True, help="a folder for all artifacts")
    parser.add_argument("--memory", default="3g")
    given = parser.parse_args()
    given.store.mkdir(parents=True, exist_ok=True)
    with store_island() as island:
        cluster = Cluster(given.store, island, memory=given.memory)
        for ended in cluster.pipeline(
            given.pipeline.read_text(), as_parameters(composed(profile=given.profile))
        ):
            digests = " ".join(f"{name} {digest[:12]}" for name, digest in ended.digests.items())
            say(f"{ended.task:24} {ended.seconds:6.1f} s  {digests}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
