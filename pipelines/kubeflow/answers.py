"""What the API answers, as far as it is read here: fields may be missing, null or new, but not of another kind.

An answer is checked once, where it arrives; whoever reads it afterwards need not ask whether a list is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

_List: Any = list
_Map: Any = dict
_Object: Any = _Map[str, Any] | None
_Text: Any = str | None
_TypedDict: Any = TypedDict


def _some(name: str, /, **fields: Any) -> Any:
    """An object of which any of these fields may be there."""
    return _TypedDict(name, fields, total=False)


_Named = _some("_Named", name=_Text)
_Task = _some("_Task", componentRef=_Named | None, taskInfo=_Named | None, dependentTasks=_List[str] | None)
_Dag = _some("_Dag", tasks=_Map[str, _Task] | None)
_Component = _some("_Component", executorLabel=_Text, dag=_Dag)
_Metadata = _some("_Metadata", annotations=_Object, labels=_Object)
_Executor = _some("_Executor", container=_Object, podMetadata=_Metadata | None)
_Deployment = _some("_Deployment", executors=_Map[str, _Executor] | None)
_GRAPH: dict[str, Any] = {
    "pipelineInfo": _Named | None,
    "root": _some("_Root", dag=_Dag | None) | None,
    "components": _Map[str, _Component] | None,
    "deploymentSpec": _Deployment | None,
}
_Kubernetes = _some("_Kubernetes", deploymentSpec=_Deployment | None)
_Platforms = _some("_Platforms", kubernetes=_Kubernetes | None)
_Documents = _some(
    "_Documents",
    **_GRAPH,
    pipeline_spec=_some("_Graph", **_GRAPH),
    platform_spec=_some("_Platform", platforms=_Platforms | None) | None,
)
_Detail = _some(
    "_Detail",
    error=_Object,
    child_tasks=_List[_some("_Child", pod_name=_Text)] | None,
)
_IDS: dict[str, Any] = dict.fromkeys(("run_id", "experiment_id", "pipeline_id", "pipeline_version_id"), _Text)
_Thing = _some("_Thing", **_IDS)

RUN: TypeAdapter[Any] = TypeAdapter(
    _some(
        "_Run",
        run_id=_Text,
        error=_Object,
        state_history=_List[_Map[str, Any]] | None,
        runtime_config=_Object,
        run_details=_some("_Details", task_details=_List[_Detail] | None) | None,
        pipeline_spec=_Documents | None,
        pipeline_version_reference=_Thing | None,
    )
)
"""A run, with its pipeline."""

OTHER: TypeAdapter[Any] = TypeAdapter(
    _some(
        "_Answer",
        **_IDS,
        pipeline_spec=_Documents | None,
        **dict.fromkeys(("runs", "experiments", "pipeline_versions"), _List[_Thing] | None),
    )
)
"""Any other answer: something that has an id, or a list of such."""


def problem(answer: Mapping[str, Any], *, run: bool) -> str:
    """What in an answer is of another kind than the API says, "" where nothing is.

    :param run: it should be a run, and not anything else.
    """
    try:
        (RUN if run else OTHER).validate_python(answer)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:200]
    return ""
