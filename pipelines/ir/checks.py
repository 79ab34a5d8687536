"""What a pipeline must be beyond its form: it is whole, it comes to an end, and the backend would do what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from components.shared.runtime.errors import UnsupportedPipeline

from .spec import (
    Component,
    Constant,
    Container,
    Dag,
    FromParent,
    FromTask,
    Importer,
    Pipeline,
    Task,
)

PLACEHOLDER = re.compile(
    r"\{\{\$(?:|\.inputs\.parameters\['(?P<parameter>[^']+)'\]"
    r"|\.(?P<side>inputs|outputs)\.artifacts\['(?P<artifact>[^']+)'\]\.(?P<what>path|uri)"
    r"|\.outputs\.parameters\['(?P<output>[^']+)'\]\.output_file)\}\}"
)
"""All that an argument of a container may hold. `{{$}}` itself matches with no group set."""

JOB_PLACEHOLDERS = ("{{$.pipeline_job_name}}", "{{$.pipeline_job_uuid}}", "{{$.pipeline_task_name}}")

MOST_TASKS = 10_000
"""Of a pipeline, all nested ones together. Ours has 20; KFP shows a hundred."""

DEEPEST = 30
"""Pipelines in one another."""


def refuse(what: str, where: str, why: str = "", fix: str = "") -> UnsupportedPipeline:
    """The error for an element that is outside our part of the IR."""
    return UnsupportedPipeline(f"{what} is not supported", where=where, why=why, fix=fix)


def damaged(why: str, where: str) -> UnsupportedPipeline:
    """The error for what no compiler writes."""
    return UnsupportedPipeline("the pipeline is damaged", where=where, why=why, fix="compile it again")


def check(pipeline: Pipeline) -> None:
    """Refuse a pipeline that cannot be run as it is meant.

    :raises UnsupportedPipeline: `where` names the element.
    """
    if not isinstance(pipeline.root.body, Dag):
        raise damaged("it is no DAG", "root")
    for component in (pipeline.root, *pipeline.components.values()):
        if isinstance(component.body, Container):
            _check_container(component, component.body)
        elif isinstance(component.body, Importer):
            _check_importer(component)
        else:
            _check_dag(component, component.body, pipeline)
    _count(pipeline.root, pipeline, (), {})


def _count(component: Component, pipeline: Pipeline, above: tuple[str, ...], known: dict[str, int]) -> int:
    """The tasks of a component, with those of all that it nests."""
    dag = component.body
    if not isinstance(dag, Dag):
        return 1
    if component.name in above:
        raise damaged("it nests itself", f"{' in '.join([component.name, *reversed(above)])}")
    if len(above) > DEEPEST:
        raise refuse(f"a nesting of more than {DEEPEST} pipelines", component.name)
    if component.name not in known:
        within = (*above, component.name)
        known[component.name] = sum(
            _turns(task) * _count(pipeline.components[task.component], pipeline, within, known)
            for task in dag.tasks.values()
        )
    if known[component.name] > MOST_TASKS:
        raise refuse(
            f"a pipeline of {known[component.name]:,} tasks",
            component.name,
            why=f"{MOST_TASKS:,} are the most",
        )
    return known[component.name]


def _turns(task: Task) -> int:
    items = task.iterator.items if task.iterator else None
    return len(items.value) if isinstance(items, Constant) and isinstance(items.value, list) else 1


# -- what is executed


def _check_importer(component: Component) -> None:
    if len(component.output_artifacts) != 1 or component.output_parameters:
        raise damaged("an importer has one output, an artifact", component.name)


def _check_container(component: Component, container: Container) -> None:
    if not container.command and not container.arguments:
        raise damaged("it has no command", component.name)
    for key, slot in component.output_artifacts.items():
        if slot.is_list:
            raise refuse("a container that writes a list of artifacts", f"{component.name}.{key}")
    for text in (*container.command, *container.arguments):
        where = f"{component.name}, argument {text!r:.200}"
        if text.startswith(('{"Concat"', '{"IfPresent"')):
            text = _if_present(text, where, component)
        for placeholder in re.finditer(r"\{\{\$.*?\}\}", text):
            match = PLACEHOLDER.fullmatch(placeholder[0])
            if match is None:
                raise refuse(
                    f"the placeholder {placeholder[0]:.200}", where, fix="pass {{$}} and read the JSON"
                )
            _check_placeholder(match, component, where)


def _check_placeholder(match: re.Match[str], component: Component, where: str) -> None:
    artifacts = component.artifacts if match["side"] == "inputs" else component.output_artifacts
    for name, declared in (
        (match["parameter"], component.parameters),
        (match["output"], component.output_parameters),
        (match["artifact"], artifacts),
    ):
        if name is not None and name not in declared:
            raise damaged(f"the component has no {name!r}", where)
    if match["side"] == "inputs" and component.artifacts[match["artifact"]].is_list:
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
    except (ValueError, RecursionError):
        raise damaged("the placeholder is no JSON", where) from None
    if "Concat" in text:
        raise refuse("ConcatPlaceholder", where, fix="build the text inside the container")
    condition = condition.get("IfPresent")
    if not isinstance(condition, dict) or not {"InputName", "Then"} <= condition.keys():
        raise damaged("the placeholder says no input, or not what comes then", where)
    if condition["InputName"] not in component.parameters:
        raise refuse("IfPresent on an artifact", where, why="the backend looks at parameters only")
    branches = [condition["Then"], condition.get("Else", [])]
    texts = [part for branch in branches for part in ([branch] if isinstance(branch, str) else branch)]
    if not all(isinstance(part, str) for part in texts):
        raise damaged("the placeholder stands for something else than text", where)
    return "\n".join(texts)


# -- what is in order


def _check_dag(component: Component, dag: Dag, pipeline: Pipeline) -> None:
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
        if task.component not in pipeline.components:
            raise damaged(f"there is no component {task.component!r}", where)
        _check_task(task, pipeline.components[task.component], where)
        for key, parameter in task.parameters.items():
            _check_source(parameter, component, dag, pipeline, f"{where}.{key}")
        for key, artifact in task.artifacts.items():
            _check_source(artifact, component, dag, pipeline, f"{where}.{key}", artifacts=True)
        if lacking := set(task.after) - dag.tasks.keys():
            raise damaged(f"there is no task {min(lacking)!r}, which it waits for", where)
    for key, source in dag.parameters.items():
        _check_source(source, component, dag, pipeline, f"{component.name}.{key}")
    for key, source in dag.artifacts.items():
        _check_source(source, component, dag, pipeline, f"{component.name}.{key}", artifacts=True)
    declared = component.output_parameters.keys(), component.output_artifacts.keys()
    if declared != (dag.parameters.keys(), dag.artifacts.keys()):
        raise damaged("its outputs are not those that it declares", component.name)
    try:
        TopologicalSorter({name: task.needs for name, task in dag.tasks.items()}).prepare()
    except CycleError as error:
        raise damaged(f"tasks wait for each other: {' → '.join(error.args[1])}", component.name) from error


def _check_task(task: Task, inner: Component, where: str) -> None:
    nested = isinstance(inner.body, Dag)
    if nested and task.retry.count:
        raise refuse("a retry of a nested pipeline", where, fix="set it on the tasks inside")
    if task.iterator and not nested:
        raise refuse("a loop whose body is not a DAG", where)
    if lacking := [
        key for key, slot in inner.artifacts.items() if not slot.optional and key not in task.artifacts
    ]:
        raise damaged(f"the artifact {lacking[0]!r} is not given", where)
    if task.iterator:
        items = task.iterator.items
        if isinstance(items, FromParent) and items.name not in task.parameters:
            raise damaged(f"the loop goes over {items.name!r}, which is not given", where)
        if task.iterator.item not in inner.parameters:
            raise damaged(f"the loop's body has no parameter {task.iterator.item!r}", where)
    if isinstance(inner.body, Importer):
        source = inner.body.uri
        if isinstance(source, FromParent) and source.name not in task.parameters:
            raise damaged(f"the address {source.name!r} is not given", where)
    for key, value in task.parameters.items():
        text = value.value if isinstance(value, Constant) else None
        if (
            isinstance(text, str)
            and "{{$" in text
            and key in inner.parameters
            and text not in JOB_PLACEHOLDERS
        ):
            raise refuse(
                f"the placeholder in {text!r:.200}", f"{where}.{key}", fix="pass the parameter itself"
            )


def _check_source(
    source: FromParent | FromTask | Constant,
    component: Component,
    dag: Dag,
    pipeline: Pipeline,
    where: str,
    *,
    artifacts: bool = False,
) -> None:
    """Whether there is something where a value comes from."""
    declared: Mapping[str, object]
    if isinstance(source, FromParent):
        declared = component.artifacts if artifacts else component.parameters
        if source.name not in declared:
            raise damaged(f"it takes {source.name!r}, which {component.name} does not have", where)
    elif isinstance(source, FromTask):
        if source.task not in dag.tasks:
            raise damaged(f"there is no task {source.task!r}, from which it takes", where)
        producer = pipeline.components.get(dag.tasks[source.task].component)
        if producer is None:
            raise damaged(f"there is no component {dag.tasks[source.task].component!r}", where)
        declared = producer.output_artifacts if artifacts else producer.output_parameters
        if source.key not in declared:
            raise damaged(f"task {source.task!r} has no output {source.key!r}", where)
