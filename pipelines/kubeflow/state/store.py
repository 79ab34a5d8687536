"""What a Kubeflow run has left in the object store: progress, logs, models. It outlives pods and workflows.

Everything lies below the run's root, `<pipeline root>/<pipeline name>/<run id>`: `progress/<task>.json`, written by the
phases, and `<task>/<uuid>/<output>`, written by KFP's launcher, the logs of an attempt as `executor-logs-<attempt>`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.shared.runtime.errors import ForgeError, InputError, StoreError
from components.shared.runtime.store.interface import Store
from components.shared.runtime.store.uri import open_store

from ...phases import PHASES, several

DEFAULT_ROOT = "minio://mlpipeline/v2/artifacts"
"""Where KFP keeps artifacts where its ConfigMap kfp-launcher and the run say nothing."""

AGAIN_SECONDS = 60.0
"""A store that did not answer is left alone so long."""

NUMBERS = ("time", "step", "total", "eta", "attempt", "updated")
"""What a line of progress has of them; JSON's text may hold anything, NaN and numbers beyond all others among them."""

LARGEST = 1e15

STEPS = re.compile(r"-(trunk|round|worker|select)")
LOG = re.compile(r"executor-logs(?:-(\d+))?$")


@dataclass(frozen=True)
class Output:
    """An artifact below a run's root."""

    task: str
    name: str
    address: str


class RunStore:
    """The part of a store that belongs to one run. Where it cannot be read, `problem` says why, and it is empty.

    :param root: the run's root.
    """

    def __init__(self, root: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.root = root.rstrip("/")
        self.problem = ""
        self._clock = clock
        self._again = 0.0
        self._store: Store | None = None

    def progress(self) -> dict[str, dict[str, Any]]:
        """The last progress of each task that has said something, by the task's title."""

        def read(store: Store) -> dict[str, dict[str, Any]]:
            lines = {}
            for entry in store.list("progress/"):
                if (line := _progress(store.get(entry.key))) and entry.key.endswith(".json"):
                    lines[entry.key.removeprefix("progress/").removesuffix(".json")] = line
            return lines

        return dict(self._read(read, {}))

    def outputs(self) -> list[Output]:
        """The whole artifacts of all tasks: those that have their manifest."""
        keys = self._read(lambda store: [entry.key for entry in store.list()], [])
        whole = [key.split("/") for key in keys if key.endswith("/forge.json") and key.count("/") == 3]
        return [
            Output(task, name, f"{self.root}/{task}/{number}/{name}")
            for task, number, name, _ in sorted(whole)
        ]

    def log(self, title: str, attempt: int = 0) -> str:
        """What an attempt of a task has written, "" where nothing is kept.

        :param attempt: counted from 1; 0 for the last one.
        """
        keys = self._read(lambda store: [entry.key for entry in store.list(f"{title}/")], [])
        logs = [(int(match[1] or 0), key) for key in keys if (match := LOG.search(key))]
        if attempt:
            logs = [(number, key) for number, key in logs if number == attempt - 1]
        return (
            str(self._read(lambda store: store.get(max(logs)[1]).decode(errors="replace"), ""))
            if logs
            else ""
        )

    def model_for(self, phase: str, count: int) -> list[str]:
        """The addresses of the models that `phase` starts from: the output of the phase before it.

        :param count: how many it takes; 0: as many as there are.
        :raises InputError: the run has none, or too few.
        """
        return chosen(phase, count, self.outputs(), where=self.root, why=self.problem)

    def _read(self, work: Callable[[Store], Any], nothing: Any) -> Any:
        if self._clock() < self._again:
            return nothing
        try:
            if self._store is None:
                self._store = open_store(self.root)
            result = work(self._store)
        except (ForgeError, ValueError) as error:
            if isinstance(error, StoreError):
                self.problem = f"{error.what}: {error.why}".removesuffix(": ")
                self._again = self._clock() + AGAIN_SECONDS
            return nothing
        self.problem = ""
        return result


def chosen(phase: str, count: int, outputs: Sequence[Output], *, where: str, why: str = "") -> list[str]:
    """The addresses, among these outputs, of the models from which `phase` starts.

    :raises InputError: none, or too few.
    """
    before = PHASES[PHASES.index(phase) - 1]
    models = [
        output
        for output in outputs
        if output.name == "model"
        and (output.task == before or output.task.startswith(f"{before}-"))
        and not STEPS.search(output.task)
    ]
    newest = {
        output.task: output.address for output in models
    }  # a retried task has several; any whole one is the same
    addresses = [newest[task] for task in sorted(newest, key=_natural)]
    wanted = count or (len(addresses) if several(phase) else 1)
    if not addresses or len(addresses) < wanted:
        raise InputError(
            f"the run has no model for phase {phase} to start from"
            if not addresses
            else f"the run has {len(addresses)} models for phase {phase}, not {wanted}",
            where=where,
            why=why
            or f"phase {before} has left none there; a result that came from KFP's cache lies in an older run",
            fix="give its address: --artifact, as the page of the run shows it",
        )
    return addresses[:wanted]


def root_of(run: Mapping[str, Any], addresses: Sequence[str], launcher: Mapping[str, str]) -> str:
    """The root of a run: from the address of anything that it makes, else from what KFP is configured with.

    :param run: as the API has it.
    :param launcher: the data of the ConfigMap kfp-launcher.
    """
    number = str(run.get("run_id"))
    for address in addresses:
        if f"/{number}/" in address:
            return f"{address.partition(f'/{number}/')[0]}/{number}"
    spec = specification_of(run)
    root = (
        (run.get("runtime_config") or {}).get("pipeline_root")
        or spec.get("defaultPipelineRoot")
        or launcher.get("defaultPipelineRoot")
        or DEFAULT_ROOT
    )
    name = (spec.get("pipelineInfo") or {}).get("name") or "agent-forge"
    return f"{str(root).partition('?')[0].rstrip('/')}/{name}/{number}"


def _progress(text: bytes) -> dict[str, Any]:
    """A line of progress, empty where it is none.

    What should be a number and is not is left out: to be seen is all that it is for, and one task's must not hide those
    of others.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(line, dict):
        return {}
    return {name: value for name, value in line.items() if name not in NUMBERS or _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= LARGEST


def specification_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """The compiled pipeline of a run, without its part for Kubernetes; empty where the server gives none."""
    spec = run.get("pipeline_spec") or {}
    inner = spec.get("pipeline_spec", spec)
    return inner if isinstance(inner, dict) else {}


def _natural(text: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]
