"""Reads KFP's compiled pipeline (IR YAML) and refuses, by name, whatever is outside the part that we use.

The pipeline's own YAML is held to that part by a test; the local runner refuses the rest before anything
runs. Some of what is refused here compiles, and is then not done, or done wrongly, by the backend: the reason
is in the error. `shape.py` says which fields there are, `checks.py` what they must add up to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import UnsupportedPipeline

from . import shape
from .checks import check, damaged, refuse
from .documents import documents
from .spec import (
    ArtifactSlot,
    Component,
    Constant,
    Container,
    Dag,
    FromParent,
    FromTask,
    Importer,
    Loop,
    Parameter,
    Pipeline,
    Retry,
    Task,
)

KINDS = ("STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT")

TOLD = "FORGE_"
"""What begins so tells a pod of its place in the run. On this machine it is the runner that tells it."""

LONGEST = 1e8
"""Three years in seconds: no count, pause or time limit is larger."""


def load(path: Path) -> Pipeline:
    """The pipeline in the YAML file `path`.

    :raises UnsupportedPipeline: not a compiled pipeline, or one that uses what we do not run; `where` names
        the element.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedPipeline(
            "the pipeline cannot be read", where=str(path), why=str(error), fix="compile it: forge compile"
        ) from error


def parse(text: str) -> Pipeline:
    """`load`, from text.

    :raises UnsupportedPipeline: as `load` does.
    """
    found = documents(text)
    if not found or not isinstance(found[0], dict) or "root" not in found[0]:
        raise UnsupportedPipeline(
            "this is no compiled KFP v2 pipeline", why="it has no root", fix="forge compile writes one"
        )
    spec, platforms = shape.checked(found)
    kubernetes: dict[str, Any] = {}
    for platform in platforms:
        settings = platform.get("platforms", {}).get("kubernetes", {})
        kubernetes |= settings.get("deploymentSpec", {}).get("executors", {})
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    pipeline = Pipeline(
        name=str(spec.get("pipelineInfo", {}).get("name", "pipeline")),
        root=_component("root", spec["root"], executors, kubernetes),
        components={
            name: _component(name, content, executors, kubernetes)
            for name, content in spec.get("components", {}).items()
        },
        ignored=tuple(sorted(_ignored(executors, kubernetes))),
        text=text,
    )
    check(pipeline)
    return pipeline


def _component(
    name: str,
    content: shape.Component,
    executors: Mapping[str, shape.Executor],
    kubernetes: Mapping[str, Mapping[str, Any]],
) -> Component:
    inputs, outputs = content.get("inputDefinitions", {}), content.get("outputDefinitions", {})
    label = content.get("executorLabel")
    if (label is None) == ("dag" not in content):
        raise damaged("it is a DAG, or has an executor: one of them", name)
    body: Dag | Container | Importer
    if label is None:
        body = _dag(name, content["dag"])
    elif label not in executors:
        raise damaged(f"there is no executor {label!r}", name)
    else:
        body = _executor(label, executors[label], kubernetes.get(label, {}))
    return Component(
        name=name,
        parameters=_parameters(name, inputs),
        artifacts=_slots(inputs),
        output_parameters=_parameters(name, outputs),
        output_artifacts=_slots(outputs),
        body=body,
    )


def _parameters(where: str, interface: shape.Interface) -> dict[str, Parameter]:
    parameters = {}
    for name, content in interface.get("parameters", {}).items():
        kind = content["parameterType"]
        if kind not in KINDS:
            raise refuse(f"a parameter of type {kind}", f"{where}.{name}")
        parameters[name] = Parameter(kind, content.get("isOptional", False), content.get("defaultValue"))
    return parameters


def _slots(interface: shape.Interface) -> dict[str, ArtifactSlot]:
    slots = {}
    for name, content in interface.get("artifacts", {}).items():
        kind = content["artifactType"]
        title = kind.get("schemaTitle") or kind.get("instanceSchema", "")
        slots[name] = ArtifactSlot(
            title, content.get("isArtifactList", False), content.get("isOptional", False)
        )
    return slots


def _dag(name: str, content: shape.Dag) -> Dag:
    outputs = content.get("outputs", {})
    parameters, artifacts = {}, {}
    for key, output in outputs.get("parameters", {}).items():
        source = output["valueFromParameter"]
        parameters[key] = FromTask(source.get("producerSubtask", ""), source["outputParameterKey"])
    for key, selected in outputs.get("artifacts", {}).items():
        if len(selected["artifactSelectors"]) != 1:
            raise refuse("dsl.OneOf", f"{name}.outputs.{key}")
        selector = selected["artifactSelectors"][0]
        artifacts[key] = FromTask(selector.get("producerSubtask", ""), selector["outputArtifactKey"])
    tasks = {key: _task(f"{name}.{key}", key, element) for key, element in content.get("tasks", {}).items()}
    return Dag(tasks, parameters, artifacts)


def _task(where: str, name: str, content: shape.Task) -> Task:
    inputs = content.get("inputs", {})
    return Task(
        name=name,
        label=content["taskInfo"]["name"] if "taskInfo" in content else name,
        component=content["componentRef"]["name"],
        parameters={
            key: _value(f"{where}.{key}", element) for key, element in inputs.get("parameters", {}).items()
        },
        artifacts={
            key: _artifact(f"{where}.{key}", element) for key, element in inputs.get("artifacts", {}).items()
        },
        after=tuple(content.get("dependentTasks", ())),
        iterator=_iterator(where, content),
        retry=_retry(where, content.get("retryPolicy", {})),
        cached=content.get("cachingOptions", {}).get("enableCache", False),
    )


def _value(where: str, content: shape.Argument) -> FromParent | FromTask | Constant:
    if len(content) != 1:
        raise damaged("a parameter comes from one place", where)
    if "componentInputParameter" in content:
        return FromParent(content["componentInputParameter"])
    if "taskOutputParameter" in content:
        source = content["taskOutputParameter"]
        return FromTask(source.get("producerTask", ""), source["outputParameterKey"])
    return Constant(content["runtimeValue"]["constant"])


def _artifact(where: str, content: shape.ArtifactArgument) -> FromParent | FromTask:
    if len(content) != 1:
        raise damaged("an artifact comes from one place", where)
    if "componentInputArtifact" in content:
        return FromParent(content["componentInputArtifact"])
    source = content["taskOutputArtifact"]
    return FromTask(source.get("producerTask", ""), source["outputArtifactKey"])


def _iterator(where: str, content: shape.Task) -> Loop | None:
    if "parameterIterator" not in content:
        return None
    loop = content["parameterIterator"]
    items = loop["items"]
    if len(items) != 1:
        raise damaged("a loop goes over one thing", where)
    source: Constant | FromParent
    if "raw" in items:
        try:
            source = Constant(json.loads(items["raw"]))
        except (ValueError, RecursionError) as error:
            raise damaged(f"the items of its loop are no JSON: {error}", where) from error
    else:
        source = FromParent(items["inputParameter"])
    limit = int(_number(content.get("iteratorPolicy", {}).get("parallelismLimit", 0), where))
    return Loop(loop["itemInput"], source, limit)


def _retry(where: str, content: shape.Retries) -> Retry:
    return Retry(
        count=int(_number(content.get("maxRetryCount", 0), where)),
        pause=_number(content.get("backoffDuration", 0.0), where),
        factor=_number(content.get("backoffFactor", 2.0), where),
        longest=_number(content.get("backoffMaxDuration", 3600.0), where),
    )


def _number(value: shape.Number, where: str) -> float:
    """A count, or seconds, as a number or as protobuf writes them in JSON: `"30s"`."""
    try:
        number = float(str(value).removesuffix("s"))
    except ValueError:
        number = math.nan
    if not 0 <= number <= LONGEST:
        raise damaged(f"{value!r:.100} is no number from 0 to {LONGEST:,.0f}", where)
    return number


def _executor(label: str, content: shape.Executor, kubernetes: Mapping[str, Any]) -> Container | Importer:
    if len(content) != 1:
        raise damaged("an executor is a container or an importer", label)
    if "importer" in content:
        element = content["importer"]
        uri = element["artifactUri"]
        if "runtimeParameter" not in uri and not uri.get("constant"):
            raise damaged("an importer without an address", label)
        source = (
            FromParent(uri["runtimeParameter"]) if "runtimeParameter" in uri else Constant(uri["constant"])
        )
        return Importer(source, element.get("metadata", {}))
    container = content["container"]
    return Container(
        command=tuple(container.get("command", ())),
        arguments=tuple(container.get("args", ())),
        environment={
            pair["name"]: pair.get("value", "")
            for pair in container.get("env", ())
            if not pair["name"].startswith(TOLD)
        },
        timeout=_number(kubernetes.get("activeDeadlineSeconds", 0), label),
    )


def _ignored(
    executors: Mapping[str, shape.Executor], kubernetes: Mapping[str, Mapping[str, Any]]
) -> set[str]:
    """What is in the pipeline and only means something on a cluster, in the words of the IR."""
    names = {name for executor in kubernetes.values() for name in executor if name != "activeDeadlineSeconds"}
    for executor in executors.values():
        container = executor.get("container", {})
        names |= {name for name in ("image", "resources") if container.get(name)}
    return names
