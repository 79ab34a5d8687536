"""How large a compiled pipeline becomes in a cluster: its pods, and the bytes of its workflow object.

KFP 2 runs a driver pod for the whole, a driver and an executor for each container, and one pod for each importer. Argo
keeps what it knows of every node in the workflow object, each task's interface several times over; above a megabyte it
packs the nodes away (`compressedNodes`), and from then on KFP's API shows tasks without names and states. The run goes on;
whoever watches it is blind. So what would come there is refused before it is submitted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from components.shared.runtime.errors import ConfigError

from ..ir.documents import LOADER

COPIES = 5.4
"""How often a task's interface is in the finished workflow, as JSON in JSON. Measured on KFP 2.17 with Argo 4.0: a run of
54 pods ended with 1.23 MB (from which this is), one of 102 pods with 2.29 MB (2.6 MB by this).
"""
TEMPLATES = 35_000
"""Bytes of what is in the workflow once, beside the compiled pipeline itself."""
ARTIFACT, OUTPUT, PARAMETER, INPUT = 600, 350, 45, 300
"""Bytes that an input artifact, an output artifact, a parameter and the rest take in a launcher's executor input."""


@dataclass(frozen=True)
class Size:
    """Pods that a run has in all, and bytes of its workflow at the end."""

    pods: int
    bytes: int


def estimate(text: str) -> Size:
    """The size of a run of the compiled pipeline `text`; the turns of a loop are not known here and count once."""
    spec, *rest = yaml.load_all(text, LOADER)
    platform = rest[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if rest else {}
    executors = spec["deploymentSpec"]["executors"]
    pods, weight = 1, 0
    for task, component in _tasks(spec, spec["root"]["dag"]):
        label = component.get("executorLabel", "")
        pods += 2 if "container" in executors.get(label, {}) else 1
        parts = (component, task, executors.get(label, {}), platform.get(label, {}))
        weight += sum(_length(part) for part in parts) + _executor_input(component) + _values(spec, task)
    return Size(pods, int(TEMPLATES + _length(spec) + _length(platform) + COPIES * weight))


def check(text: str, limit: int) -> Size:
    """The size of a run.

    :param limit: bytes of the workflow, `workflow_bytes` of the cluster's settings.
    :raises ConfigError: it would be over the limit.
    """
    size = estimate(text)
    if size.bytes > limit:
        raise ConfigError(
            f"the run would have {size.pods} pods and a workflow of about {size.bytes / 1e6:.2f} MB",
            where="rounds × workers",
            why=f"above {limit / 1e6:.2f} MB Argo packs its nodes away, and KFP shows a run without its tasks",
            fix="fewer --rounds or --workers (a worker then measures more of the population), or a range of phases. "
            "A larger workflow_bytes in configs/cluster moves the limit: the run goes on past it, and `forge status` "
            "follows it by its pods and its store",
        )
    return size


def _tasks(spec: Mapping[str, Any], dag: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    for task in dag["tasks"].values():
        component = spec["components"][task["componentRef"]["name"]]
        yield task, component
        if "dag" in component:
            yield from _tasks(spec, component["dag"])


def _executor_input(component: Mapping[str, Any]) -> int:
    inputs, outputs = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
    return (
        INPUT
        + ARTIFACT * len(inputs.get("artifacts", {}))
        + OUTPUT * (1 + len(outputs.get("artifacts", {})))  # the launcher's own: executor-logs
        + PARAMETER * len(inputs.get("parameters", {}))
    )


def _values(spec: Mapping[str, Any], task: Mapping[str, Any]) -> int:
    """Bytes of the texts among a task's parameters, its settings above all.

    The pipeline's defaults stand for what a run gives. They are JSON in JSON.
    """
    defaults = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    names = [
        value.get("componentInputParameter", "")
        for value in task.get("inputs", {}).get("parameters", {}).values()
    ]
    texts = [defaults.get(name, {}).get("defaultValue") for name in names]
    return sum(_length(text) for text in texts if isinstance(text, str))


def _length(content: Any) -> int:
    return len(json.dumps(content, separators=(",", ":")))
