"""What Argo calls a task's nodes and its pod, so that a pod's log is found where the Kubernetes API may not be asked.

KFP's API tells the children of a workflow's nodes by their ids, but no pod's name. Both end in the same number: the
FNV-1a hash of the node's name, which is its path through the workflow. So a name that is guessed is known to be right
when its id is among those that the API tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

ATTEMPT = re.compile(r"\((\d+)\)$")
RETRIED = ("", "(0)")
"""A DAG's node is called by its first attempt too, where the controller's ConfigMap retries DAGs (KFP 2.17's does)."""
MOST_ATTEMPTS = 20


def task_of(node: str) -> tuple[str, int] | None:
    """Task and attempt that a node's name speaks of; None for a driver's, or a DAG's.

    `agent-forge-x7k2p(0).root(0).quietstar(0).executor(1)` is the second attempt of quietstar.
    """
    parts = node.split(".")
    if ATTEMPT.sub("", parts[-1]) != "executor" or len(parts) < 3:
        return None
    number = ATTEMPT.search(parts[-1])
    names = [ATTEMPT.sub("", part) for part in parts[1:-1]]
    return "/".join(name for name in names if name != "root"), int(number[1]) if number else 0


def pod_of(run: Mapping[str, Any], task: str) -> str:
    """The name of the pod of a task's last attempt; "" where KFP's API does not tell enough.

    :param run: as the API has it.
    :param task: its name in the pipeline's graph.
    """
    details = (run.get("run_details") or {}).get("task_details") or []
    ids = {child.get("pod_name") for detail in details for child in detail.get("child_tasks") or []} - {None}
    for workflow in {str(pod).rpartition("-")[0] for pod in ids}:
        for node in _nodes(workflow, task):
            number = fnv1a(node)
            if f"{workflow}-{number}" in ids:
                return f"{workflow}-{_template(run, task)}-{number}"
    return ""


def fnv1a(text: str) -> int:
    """The 32-bit FNV-1a hash."""
    number = 0x811C9DC5
    for byte in text.encode():
        number = (number ^ byte) * 0x01000193 & 0xFFFFFFFF
    return number


def _nodes(workflow: str, task: str) -> Iterator[str]:
    """What the node of a task's pod may be called, the last attempt first."""
    attempts = [*(f"({number})" for number in reversed(range(MOST_ATTEMPTS))), ""]
    for attempt, of_workflow, of_graph, of_task in product(attempts, RETRIED, RETRIED, RETRIED):
        yield f"{workflow}{of_workflow}.root{of_graph}.{task}{of_task}.executor{attempt}"


def _template(run: Mapping[str, Any], task: str) -> str:
    """The template that KFP's compiler makes for a container: one for all with and without retries and metadata."""
    documents = run.get("pipeline_spec") or {}
    spec = documents.get("pipeline_spec", documents)
    graph_task = ((spec.get("root") or {}).get("dag") or {}).get("tasks", {}).get(task) or {}
    component = (spec.get("components") or {}).get(
        (graph_task.get("componentRef") or {}).get("name") or ""
    ) or {}
    platform = ((documents.get("platform_spec") or {}).get("platforms") or {}).get("kubernetes") or {}
    executors = (platform.get("deploymentSpec") or {}).get("executors") or {}
    metadata = (executors.get(component.get("executorLabel") or "") or {}).get("podMetadata")
    name = f"{'retry-' if graph_task.get('retryPolicy') else ''}system-container-impl"
    if metadata is None:
        return name
    return f"metadata-{len(metadata.get('annotations') or {})}-{len(metadata.get('labels') or {})}-{name}"
