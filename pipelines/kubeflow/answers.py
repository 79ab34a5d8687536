"""What the API answers, as far as it is read here: fields may be missing, null or new, but not of another kind.

An answer is checked once, where it arrives; whoever reads it afterwards need not ask whether a list is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

Object = dict[str, Any]


class _Named(TypedDict, total=False):
    name: str | None


class _Task(TypedDict, total=False):
    componentRef: _Named | None
    taskInfo: _Named | None
    dependentTasks: list[str] | None


class _Dag(TypedDict, total=False):
    tasks: dict[str, _Task] | None


class _Root(TypedDict, total=False):
    dag: _Dag | None


class _Component(TypedDict, total=False):
    executorLabel: str | None
    dag: _Dag


class _Pod(TypedDict, total=False):
    annotations: Object | None
    labels: Object | None


class _Executor(TypedDict, total=False):
    container: Object | None
    podMetadata: _Pod | None


class _Deployment(TypedDict, total=False):
    executors: dict[str, _Executor] | None


class _Kubernetes(TypedDict, total=False):
    deploymentSpec: _Deployment | None


class _Platforms(TypedDict, total=False):
    kubernetes: _Kubernetes | None


class _Platform(TypedDict, total=False):
    platforms: _Platforms | None


class _Graph(TypedDict, total=False):
    pipelineInfo: _Named | None
    root: _Root | None
    components: dict[str, _Component] | None
    deploymentSpec: _Deployment | None


class _Documents(_Graph, total=False):
    pipeline_spec: _Graph
    platform_spec: _Platform | None


class _Child(TypedDict, total=False):
    pod_name: str | None


class _Detail(TypedDict, total=False):
    error: Object | None
    child_tasks: list[_Child] | None


class _Details(TypedDict, total=False):
    task_details: list[_Detail] | None


class _Version(TypedDict, total=False):
    pipeline_id: str | None
    pipeline_version_id: str | None


class Run(TypedDict, total=False):
    """A run, with its pipeline."""

    run_id: str | None
    error: Object | None
    state_history: list[Object] | None
    runtime_config: Object | None
    run_details: _Details | None
    pipeline_spec: _Documents | None
    pipeline_version_reference: _Version | None


class Answer(TypedDict, total=False):
    """Any other answer: something that has an id, or a list of such."""

    run_id: str | None
    experiment_id: str | None
    pipeline_id: str | None
    pipeline_version_id: str | None
    pipeline_spec: _Documents | None
    runs: list[Run] | None
    experiments: list[Answer] | None
    pipeline_versions: list[Answer] | None


_RUN, _ANSWER = TypeAdapter(Run), TypeAdapter(Answer)


def problem(answer: Mapping[str, Any], *, run: bool) -> str:
    """What in an answer is of another kind than the API says, "" where nothing is."""
    try:
        (_RUN if run else _ANSWER).validate_python(answer)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]
    return ""
