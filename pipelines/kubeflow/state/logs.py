"""What a task of a Kubeflow run has written: from its pod while there is one, else from what outlives it."""

from __future__ import annotations

from collections.abc import Iterator

from components.shared.runtime.errors import ForgeError, InputError

from .argo_names import pod_of
from .pods import Pod, problem
from .run import Watcher
from .tasks import tasks_of


def log_of(watcher: Watcher, task: str, lines: int | None = None, *, follow: bool = False) -> Iterator[str]:
    """The lines of a task's last attempt.

    The Kubernetes API has them while the pod is there; KFP's UI asks it for those who may not, and knows Argo's
    archive; in the object store lies `executor-logs`, once an attempt has ended.

    :param task: the task's title, or its name in the graph.
    :param lines: only the last ones.
    :param follow: stay until the pod ends, where it is reached.
    :raises InputError: no source has any.
    """
    tried: list[str] = []
    pod = next((pod for pod in reversed(watcher.pods) if task in (pod.title, pod.task)), None)
    if watcher.kubernetes is not None and pod is not None:
        try:
            written = watcher.kubernetes.log(pod, lines, follow=follow)
            first = next(written, None)
        except Exception as error:  # whatever a cluster, its proxy or its certificates answer
            tried.append(f"pod {pod.name}: {problem(error)}")
        else:
            if first is not None:
                yield first
                yield from written
                return
            tried.append(f"pod {pod.name}: it has written nothing yet" + (f" ({pod.why})" if pod.why else ""))
    else:
        tried.append(
            f"pods: {watcher.missing or 'there is none of this task (KFP deletes them after an hour)'}"
        )
    text = _by_kfp(watcher, task, pod, tried)
    if not text and watcher.store is not None:
        text = watcher.store.log(task)
        if not text:
            tried.append(f"{watcher.store.root}: {watcher.store.problem or 'no executor-logs of this task'}")
    if not text:
        raise InputError(
            f"nothing is to be read of {task}",
            where=watcher.server.url(watcher.run),
            why="; ".join(tried),
            fix="give a kubeconfig (KUBECONFIG), or AWS_ENDPOINT_URL and credentials of the object store",
        )
    all_lines = text.splitlines()
    yield from all_lines[-lines:] if lines else all_lines


def _by_kfp(watcher: Watcher, task: str, pod: Pod | None, tried: list[str]) -> str:
    """The log by way of KFP: its UI's server has a path for it, its API server another."""
    named = next(
        (other.name for other in tasks_of(watcher.answer) if task in (other.title, other.name)), task
    )
    name = pod.name if pod else pod_of(watcher.answer, named)
    if not name:
        return ""
    asked = {"podname": name, "podnamespace": watcher.server.namespace, "runid": watcher.run}
    places = (("/k8s/pod/logs", asked), (f"/apis/v1alpha1/runs/{watcher.run}/nodes/{name}/log", None))
    for path, query in places:
        try:
            if text := watcher.server.http.text(path, query):
                return text
        except ForgeError as error:
            tried.append(f"{watcher.server.host}{path}: {error.why or error.what}")
    return ""
