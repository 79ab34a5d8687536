"""The pods of a Kubeflow run, from the Kubernetes API: what they wait for, how they ended, what they say.

A kubeconfig, or a pod's own service account, is needed; without one the rest of a run is still seen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from components.shared.runtime.errors import StoreError

from .argo_names import task_of

SECONDS = (5, 10)
"""Limits of connecting, and of an answer."""

RUN = "pipeline/runid"
NODE = "workflows.argoproj.io/node-name"


@dataclass(frozen=True)
class Pod:
    """One attempt of one task.

    :param task: its name in the compiled pipeline's graph.
    :param title: what the task is called for people: FORGE_TASK.
    :param why: what it waits for, or what ended it.
    :param outputs: the addresses of what it makes, by name; `inputs` of what it was given.
    """

    name: str
    namespace: str
    task: str
    attempt: int = 0
    title: str = ""
    phase: str = "Pending"
    why: str = ""
    exit_code: int | None = None
    started: float | None = None
    finished: float | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Kubernetes:
    """The API of a cluster. Use `connect`."""

    def __init__(self, core: Any, namespace: str) -> None:
        self.core = core
        self.namespace = namespace

    @classmethod
    def connect(cls, namespace: str) -> Kubernetes | None:
        """By the kubeconfig, or from inside a pod; None where there is neither."""
        inside = "KUBERNETES_SERVICE_HOST" in os.environ
        if not (inside or any(os.path.exists(path) for path in kubeconfig().split(os.pathsep))):
            return None
        from kubernetes import client, config
        from urllib3.util import Retry

        settings = client.Configuration()
        if inside:
            config.load_incluster_config(settings)
        else:
            config.load_kube_config(config_file=kubeconfig(), client_configuration=settings)
        settings.retries = Retry(0)
        return cls(client.CoreV1Api(client.ApiClient(settings)), namespace)

    def pods(self, run: str) -> list[Pod]:
        """The pods that do the work of a run (not KFP's drivers), the newest attempt of a task last."""
        answer = self.core.list_namespaced_pod(
            self.namespace, label_selector=f"{RUN}={run}", _request_timeout=SECONDS
        )
        pods = [pod for item in answer.items if (pod := _pod(item))]
        return sorted(pods, key=lambda pod: (pod.task, pod.attempt, pod.started or 0.0))

    def log(self, pod: Pod, lines: int | None = None, *, follow: bool = False) -> Iterator[str]:
        """The lines that a pod has written; with `follow`, until it ends."""
        from urllib3.exceptions import HTTPError

        answer = self.core.read_namespaced_pod_log(
            pod.name,
            pod.namespace,
            container="main",
            tail_lines=lines,
            follow=follow,
            _preload_content=False,
            _request_timeout=(SECONDS[0], None) if follow else SECONDS,
        )
        rest = b""
        try:
            for piece in answer.stream():
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
        except HTTPError as error:
            raise StoreError(
                "the log of a pod breaks off", where=pod.name, why=problem(error), fix="ask for it again"
            ) from error
        finally:
            answer.release_conn()
        if rest:
            yield rest.decode(errors="replace")

    def config_map(self, name: str) -> dict[str, str] | None:
        """The data of a ConfigMap, None where there is none."""
        return self._there(self.core.read_namespaced_config_map, name)

    def secret(self, name: str) -> dict[str, str] | None:
        """The keys of a Secret, None where there is none. The values stay where they are."""
        data = self._there(self.core.read_namespaced_secret, name)
        return None if data is None else dict.fromkeys(data, "")

    def keep_secret(self, name: str, content: Mapping[str, str]) -> None:
        """Make a Secret, or put it in the place of one of the same name."""
        from kubernetes.client import ApiException

        body = {"metadata": {"name": name, "labels": {"app": "agent-forge"}}, "stringData": dict(content)}
        try:
            self.core.create_namespaced_secret(self.namespace, body, _request_timeout=SECONDS)
        except ApiException as error:
            if error.status != 409:
                raise
            self.core.replace_namespaced_secret(name, self.namespace, body, _request_timeout=SECONDS)

    def delete_secret(self, name: str) -> None:
        """Delete a Secret; nothing happens where there is none."""
        self._gone(self.core.delete_namespaced_secret, name)

    def delete_pod(self, pod: Pod) -> None:
        """End a pod; nothing happens where it is gone."""
        self._gone(self.core.delete_namespaced_pod, pod.name)

    def nodes(self) -> list[Any]:
        """The cluster's nodes."""
        return list(self.core.list_node(_request_timeout=SECONDS).items)

    def _there(self, read: Any, name: str) -> dict[str, str] | None:
        from kubernetes.client import ApiException

        try:
            return dict(read(name, self.namespace, _request_timeout=SECONDS).data or {})
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def _gone(self, delete: Any, name: str) -> None:
        from kubernetes.client import ApiException

        try:
            delete(name, self.namespace, _request_timeout=SECONDS)
        except ApiException as error:
            if error.status != 404:
                raise


def kubeconfig() -> str:
    """The paths of the kubeconfig, as kubectl takes them."""
    return os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")


def problem(error: Exception) -> str:
    """What a cluster, its proxy or its certificates answered, in a line."""
    status, reason = getattr(error, "status", None), getattr(error, "reason", None)
    if status:
        return f"{status} {reason}"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return first[:160]


def _pod(pod: Any) -> Pod | None:
    named = task_of((pod.metadata.annotations or {}).get(NODE, ""))
    if named is None:
        return None
    main = next((container for container in pod.spec.containers if container.name == "main"), None)
    environment = {variable.name: variable.value for variable in (main.env if main else None) or []}
    executor_input = _executor_input(
        [*((main.command if main else None) or []), *((main.args if main else None) or [])]
    )
    state = next(
        (container.state for container in pod.status.container_statuses or [] if container.name == "main"),
        None,
    )
    ended = state.terminated if state else None
    begun = (ended.started_at if ended else None) or (
        state.running.started_at if state and state.running else None
    )
    return Pod(
        name=pod.metadata.name,
        namespace=pod.metadata.namespace,
        task=named[0],
        attempt=named[1],
        title=environment.get("FORGE_TASK") or "",
        phase=pod.status.phase or "Pending",
        why=_why(pod.status),
        exit_code=ended.exit_code if ended else None,
        started=begun.timestamp() if begun else None,
        finished=ended.finished_at.timestamp() if ended and ended.finished_at else None,
        outputs={name: addresses[0] for name, addresses in _addresses(executor_input, "outputs").items()},
        inputs=_addresses(executor_input, "inputs"),
    )


def _why(status: Any) -> str:
    """Why a pod does not run (any more): what its scheduler, its images or its end say."""
    for condition in status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.reason}: {_line(condition.message)}"
    statuses = [*(status.init_container_statuses or []), *(status.container_statuses or [])]
    for container in statuses:
        waiting = container.state.waiting if container.state else None
        if waiting and waiting.reason not in (None, "PodInitializing", "ContainerCreating"):
            return f"{waiting.reason}: {_line(waiting.message)}".rstrip(": ")
    for container in statuses:
        ended = container.state.terminated if container.state else None
        if ended and ended.exit_code and container.name == "main":
            reason = ended.reason if ended.reason not in (None, "Error", "Completed") else ""
            said = ", ".join(filter(None, (reason, _line(ended.message))))
            return f"exit code {ended.exit_code}" + (f" ({said})" if said else "")
    if status.reason:  # Evicted, Preempting, NodeLost …
        return f"{status.reason}: {_line(status.message)}".rstrip(": ")
    return ""


def _line(text: str | None) -> str:
    return " ".join((text or "").split())[:200]


def _executor_input(words: Sequence[str]) -> dict[str, Any]:
    """What KFP's launcher was told about inputs and outputs."""
    for word, value in pairwise(words):
        if word == "--executor_input":
            try:
                content = json.loads(value)
            except ValueError:
                return {}
            return content if isinstance(content, dict) else {}
    return {}


def _addresses(executor_input: Mapping[str, Any], side: str) -> dict[str, list[str]]:
    lists = (executor_input.get(side) or {}).get("artifacts") or {}
    by_name = {
        name: [artifact["uri"] for artifact in group.get("artifacts") or [] if "uri" in artifact]
        for name, group in lists.items()
    }
    return {name: addresses for name, addresses in by_name.items() if addresses}
