"""Reads KFP's compiled pipeline (IR YAML) and refuses, by name, whatever is outside the part that we use.

The pipeline's own YAML is held to that part by a test; the local runner refuses the rest before anything
runs. Some of what is refused here compiles, and is then not done, or done wrongly, by the backend: the reason
is in the error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.shared.runtime.errors import UnsupportedPipeline

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

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Safe, and ten times as fast where PyYAML was built with libyaml."""

PLACEHOLDER = re.compile(
    r"\{\{\$(?:|\.inputs\.parameters\['(?P<parameter>[^']+)'\]"
    r"|\.(?P<side>inputs|outputs)\.artifacts\['(?P<artifact>[^']+)'\]\.(?P<what>path|uri)"
    r"|\.outputs\.parameters\['(?P<output>[^']+)'\]\.output_file)\}\}"
)
"""All that an argument of a container may hold. `{{$}}` itself matches with no group set."""

JOB_PLACEHOLDERS = ("{{$.pipeline_job_name}}", "{{$.pipeline_job_uuid}}", "{{$.pipeline_task_name}}")

TOLD = "FORGE_"
"""What begins so tells a pod of its place in the run. On this machine it is the runner that tells it."""


def load(path: Path) -> Pipeline:
    """The pipeline in the YAML file `path`.

    :raises UnsupportedPipeline: not a compiled pipeline, or one that uses what we do not run; `where` names
        the element.
    """
    try:
        return parse(path.read_text())
    except OSError as error:
        raise UnsupportedPipeline(
            "the pipeline cannot be read", where=str(path), why=str(error), fix="compile it: forge compile"
        ) from error


def parse(text: str) -> Pipeline:
    """`load`, from text.

    :raises UnsupportedPipeline: as `load` does.
    """
    try:
        documents = [document for document in yaml.load_all(text, LOADER) if document]
    except yaml.YAMLError as error:
        raise UnsupportedPipeline("the pipeline is not YAML", why=str(error)) from error
    if not documents or not isinstance(documents[0], dict) or "root" not in documents[0]:
        raise UnsupportedPipeline(
            "this is no compiled KFP v2 pipeline", why="it has no root", fix="forge compile writes one"
        )
    spec, *platforms = documents
    _only(
        spec,
        "pipeline",
        "pipelineInfo root components deploymentSpec schemaVersion sdkVersion defaultPipelineRoot",
    )
    kubernetes: dict[str, Any] = {}
    for platform in platforms:
        settings = platform.get("platforms", {})
        _only(settings, "platforms", "kubernetes")
        kubernetes |= settings.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    components = {
        name: _component(name, content, executors, kubernetes)
        for name, content in spec.get("components", {}).items()
    }
    root = _component("root", spec["root"], executors, kubernetes)
    pipeline = Pipeline(
        name=spec.get("pipelineInfo", {}).get("name", "pipeline"),
        root=root,
        components=components,
        ignored=tuple(sorted(_ignored(executors, kubernetes))),
        text=text,
    )
    for component in (root, *components.values()):
        if isinstance(component.body, Dag):
            _check_dag(component, pipeline)
    return pipeline


def refuse(what: str, where: str, why: str = "", fix: str = "") -> UnsupportedPipeline:
    """The error for an element that is outside our part of the IR."""
    return UnsupportedPipeline(f"{what} is not supported", where=where, why=why, fix=fix)


def _only(content: Mapping[str, Any], where: str, known: str) -> None:
    """Refuse, by name, any field beyond those known."""
    for name in content:
        if name not in known.split():
            raise refuse(name, where)


def _component(
    name: str, content: Mapping[str, Any], executors: Mapping[str, Any], kubernetes: Mapping[str, Any]
) -> Component:
    _only(content, name, "dag executorLabel inputDefinitions outputDefinitions")
    inputs, outputs = content.get("inputDefinitions", {}), content.get("outputDefinitions", {})
    for side in (inputs, outputs):
        _only(side, name, "parameters artifacts")
    body: Dag | Container | Importer
    if "dag" in content:
        body = _dag(name, content["dag"])
    else:
        label = content["executorLabel"]
        body = _executor(label, executors[label], kubernetes.get(label, {}))
    component = Component(
        name=name,
        parameters={
            key: _parameter(f"{name}.{key}", element) for key, element in inputs.get("parameters", {}).items()
        },
        artifacts={
            key: _slot(f"{name}.{key}", element) for key, element in inputs.get("artifacts", {}).items()
        },
        output_parameters={
            key: _parameter(f"{name}.{key}", element)
            for key, element in outputs.get("parameters", {}).items()
        },
        output_artifacts={
            key: _slot(f"{name}.{key}", element) for key, element in outputs.get("artifacts", {}).items()
        },
        body=body,
    )
    if isinstance(body, Container):
        _check_placeholders(component, body)
    return component


def _parameter(where: str, content: Mapping[str, Any]) -> Parameter:
    _only(content, where, "parameterType defaultValue isOptional description")
    kinds = ("STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT")
    if content["parameterType"] not in kinds:
        raise refuse(f"a parameter of type {content['parameterType']}", where)
    return Parameter(content["parameterType"], bool(content.get("isOptional")), content.get("defaultValue"))


def _slot(where: str, content: Mapping[str, Any]) -> ArtifactSlot:
    _only(content, where, "artifactType isArtifactList isOptional description")
    kind = content["artifactType"]
    title = kind.get("schemaTitle") or kind.get("instanceSchema", "")
    return ArtifactSlot(title, bool(content.get("isArtifactList")), bool(content.get("isOptional")))


def _dag(name: str, content: Mapping[str, Any]) -> Dag:
    _only(content, name, "tasks outputs")
    outputs = content.get("outputs", {})
    _only(outputs, f"{name}.outputs", "parameters artifacts")
    parameters, artifacts = {}, {}
    for key, element in outputs.get("parameters", {}).items():
        _only(element, f"{name}.outputs.{key}", "valueFromParameter")
        source = element["valueFromParameter"]
        parameters[key] = FromTask(source["producerSubtask"], source["outputParameterKey"])
    for key, element in outputs.get("artifacts", {}).items():
        if len(element["artifactSelectors"]) != 1:
            raise refuse("dsl.OneOf", f"{name}.outputs.{key}")
        source = element["artifactSelectors"][0]
        artifacts[key] = FromTask(source["producerSubtask"], source["outputArtifactKey"])
    tasks = {key: _task(f"{name}.{key}", key, element) for key, element in content.get("tasks", {}).items()}
    return Dag(tasks, parameters, artifacts)


def _task(where: str, name: str, content: Mapping[str, Any]) -> Task:
    known = "taskInfo componentRef inputs dependentTasks cachingOptions parameterIterator iteratorPolicy retryPolicy"
    _only(content, where, known)
    inputs = content.get("inputs", {})
    _only(inputs, where, "parameters artifacts")
    return Task(
        name=name,
        label=content.get("taskInfo", {}).get("name", name),
        component=content["componentRef"]["name"],
        parameters={
            key: _value(f"{where}.{key}", element) for key, element in inputs.get("parameters", {}).items()
        },
        artifacts={
            key: _artifact(f"{where}.{key}", element) for key, element in inputs.get("artifacts", {}).items()
        },
        after=tuple(content.get("dependentTasks", ())),
        iterator=_iterator(where, content),
        retry=_retry(content.get("retryPolicy", {})),
        cached=bool(content.get("cachingOptions", {}).get("enableCache")),
    )


def _value(where: str, content: Mapping[str, Any]) -> FromParent | FromTask | Constant:
    _only(content, where, "componentInputParameter taskOutputParameter runtimeValue")
    if "componentInputParameter" in content:
        return FromParent(content["componentInputParameter"])
    if "taskOutputParameter" in content:
        source = content["taskOutputParameter"]
        return FromTask(source["producerTask"], source["outputParameterKey"])
    _only(content["runtimeValue"], where, "constant")
    return Constant(content["runtimeValue"]["constant"])


def _artifact(where: str, content: Mapping[str, Any]) -> FromParent | FromTask:
    _only(content, where, "componentInputArtifact taskOutputArtifact")
    if "componentInputArtifact" in content:
        return FromParent(content["componentInputArtifact"])
    source = content["taskOutputArtifact"]
    return FromTask(source["producerTask"], source["outputArtifactKey"])


def _iterator(where: str, content: Mapping[str, Any]) -> Loop | None:
    if "parameterIterator" not in content:
        return None
    loop = content["parameterIterator"]
    items = loop["items"]
    _only(items, where, "raw inputParameter")
    source = Constant(json.loads(items["raw"])) if "raw" in items else FromParent(items["inputParameter"])
    limit = int(content.get("iteratorPolicy", {}).get("parallelismLimit", 0))
    return Loop(loop["itemInput"], source, limit)


def _retry(content: Mapping[str, Any]) -> Retry:
    def seconds(key: str, default: float) -> float:
        return float(str(content.get(key, default)).removesuffix("s"))

    return Retry(
        count=int(content.get("maxRetryCount", 0)),
        pause=seconds("backoffDuration", 0.0),
        factor=float(content.get("backoffFactor", 2.0)),
        longest=seconds("backoffMaxDuration", 3600.0),
    )


def _executor(label: str, content: Mapping[str, Any], kubernetes: Mapping[str, Any]) -> Container | Importer:
    _only(content, label, "container importer")
    if "importer" in content:
        element = content["importer"]
        _only(element, label, "artifactUri typeSchema reimport metadata")
        uri = element["artifactUri"]
        source = (
            FromParent(uri["runtimeParameter"]) if "runtimeParameter" in uri else Constant(uri["constant"])
        )
        return Importer(source, element.get("metadata", {}))
    element = content["container"]
    _only(element, label, "image command args env resources")
    return Container(
        command=tuple(element.get("command", ())),
        arguments=tuple(element.get("args", ())),
        environment={
            pair["name"]: pair.get("value", "")
            for pair in element.get("env", ())
            if not pair["name"].startswith(TOLD)
        },
        timeout=float(kubernetes.get("activeDeadlineSeconds", 0)),
    )


def _ignored(executors: Mapping[str, Any], kubernetes: Mapping[str, Any]) -> set[str]:
    """What is in the pipeline and only means something on a cluster, in the words of the IR."""
    names = {name for executor in kubernetes.values() for name in executor if name != "activeDeadlineSeconds"}
    for executor in executors.values():
        names |= {name for name in ("image", "resources") if executor.get("container", {}).get(name)}
    return names


def _check_placeholders(component: Component, container: Container) -> None:
    for text in (*container.command, *container.arguments):
        where = f"{component.name}, argument {text!r}"
        if text.startswith(('{"Concat"', '{"IfPresent"')):
            text = _if_present(text, where, component)
        for placeholder in re.finditer(r"\{\{\$.*?\}\}", text):
            match = PLACEHOLDER.fullmatch(placeholder[0])
            if match is None:
                raise refuse(f"the placeholder {placeholder[0]}", where, fix="pass {{$}} and read the JSON")
            slot = component.artifacts.get(match["artifact"]) if match["side"] == "inputs" else None
            if slot and slot.is_list:
                raise refuse(
                    "a list of artifacts as an argument",
                    where,
                    why="the backend passes its first element only",
                    fix="pass {{$}} and read the JSON",
                )


def _if_present(text: str, where: str, component: Component) -> str:
    """The texts of both branches of an IfPresent, which may ask for parameters only."""
    try:
        condition = json.loads(text)
    except ValueError:
        return text
    if "Concat" in text:
        raise refuse("ConcatPlaceholder", where, fix="build the text inside the container")
    if condition["IfPresent"]["InputName"] not in component.parameters:
        raise refuse("IfPresent on an artifact", where, why="the backend looks at parameters only")
    return json.dumps(condition)


def _check_dag(component: Component, pipeline: Pipeline) -> None:
    """What the IR can say and the backend does not do."""
    dag = component.body
    assert isinstance(dag, Dag)
    for name, slot in component.artifacts.items():
        if slot.is_list:
            raise refuse(
                "a list of artifacts into a nested pipeline or a loop",
                f"{component.name}.{name}",
                why="the backend keeps one artifact a name there, so that all others would be lost",
                fix="bind the list into one artifact beside the loop that made it",
            )
    for task in dag.tasks.values():
        where = f"{component.name}.{task.name}"
        inner = pipeline.components[task.component]
        if isinstance(inner.body, Dag) and task.retry.count:
            raise refuse("a retry of a nested pipeline", where, fix="set it on the tasks inside")
        if task.iterator and not isinstance(inner.body, Dag):
            raise refuse("a loop whose body is not a DAG", where)
        for key, value in task.parameters.items():
            text = value.value if isinstance(value, Constant) else None
            if (
                isinstance(text, str)
                and "{{$" in text
                and key in inner.parameters
                and text not in JOB_PLACEHOLDERS
            ):
                raise refuse(
                    f"the placeholder in {text!r}", f"{where}.{key}", fix="pass the parameter itself"
                )
        if not isinstance(inner.body, Dag):
            for key, slot in inner.output_artifacts.items():
                if slot.is_list:
                    raise refuse("a container that writes a list of artifacts", f"{inner.name}.{key}")
