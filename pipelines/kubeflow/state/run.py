"""A Kubeflow run as it stands, put together from three sources, none of which is enough, and none of which must answer.

=================  ==========================================  ====================================================
source             says                                        is missing when
=================  ==========================================  ====================================================
KFP's API          the run's state, the tasks' states          Argo packs the nodes of a large workflow away
the object store   progress, results, logs; for good           there are no credentials here
the Kubernetes     attempts, why a pod waits, how it ended,    there is no kubeconfig; an hour after the run's end,
API                logs                                        when KFP deletes its pods
=================  ==========================================  ====================================================

The tasks themselves come from the run's compiled pipeline. Nothing depends on Argo's workflow object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...runs.folder import State
from ...runs.state import RunState
from ..server import Server
from .argo_names import ATTEMPT
from .pods import Kubernetes, Pod, problem
from .store import RunStore, root_of
from .tasks import STATES, seconds, state_of, tasks_of

PODS: Mapping[str, State] = {"Running": "running", "Succeeded": "succeeded", "Failed": "failed"}


class Watcher:
    """Looks at one run, again and again.

    `pods` are all that were ever seen, `living` those that have not ended; `missing` says why none are seen.

    :param kubernetes: the cluster's API, None where it cannot be reached from here.
    """

    def __init__(self, server: Server, run: str, kubernetes: Kubernetes | None, missing: str = "") -> None:
        self.server = server
        self.run = run
        self.kubernetes = kubernetes
        self.missing = missing
        self.store: RunStore | None = None
        self.pods: list[Pod] = []
        self.living: list[Pod] = []
        self.answer: dict[str, Any] = {}
        self._launcher: dict[str, str] = {}

    @classmethod
    def of(cls, server: Server, run: str) -> Watcher:
        """With whatever of the cluster can be reached from here."""
        try:
            kubernetes = Kubernetes.connect(server.namespace)
            return cls(server, run, kubernetes, "" if kubernetes else "no kubeconfig")
        except Exception as error:  # whatever a kubeconfig, its plugins and its certificates raise
            return cls(server, run, None, problem(error))

    def look(self) -> RunState:
        """The run now.

        :raises ServerLost: KFP's API does not answer.
        """
        answer = self.answer = self.server.run(self.run)
        self._see_pods()
        store = self.the_store(answer)
        run = RunState(
            id=self.run,
            name=str(answer.get("display_name") or self.run),
            state=state_of(answer),
            url=self.server.url(self.run),
            root=store.root,
            started=seconds(answer.get("created_at")),
            finished=seconds(answer.get("finished_at")),
            tasks=list(tasks_of(answer)),
            error=str((answer.get("error") or {}).get("message") or ""),
        )
        details = (answer.get("run_details") or {}).get("task_details") or []
        _take_details(run, details)
        _take_pods(run, self.pods)
        _take_progress(run, store.progress())
        blind = _blind(run, details)
        if blind and not run.ended:
            _take_outputs(run, {output.task for output in store.outputs()})
        _settle(run)
        self._note(run, store, blind)
        return run

    def the_store(self, answer: Mapping[str, Any]) -> RunStore:
        """The run's part of the object store, as far as it can be told where that is."""
        addresses = [address for pod in self.pods for address in pod.outputs.values()]
        if self.kubernetes and not (self._launcher or addresses or self.store):
            try:
                self._launcher = self.kubernetes.config_map("kfp-launcher") or {}
            except Exception as error:  # as above
                self.missing = problem(error)
        root = root_of(answer, addresses, self._launcher)
        if self.store is None or self.store.root != root:
            self.store = RunStore(root)
        return self.store

    def _see_pods(self) -> None:
        if self.kubernetes is None:
            return
        try:
            seen = {pod.name: pod for pod in self.kubernetes.pods(self.run)}
        except Exception as error:  # as above
            self.missing = problem(error)
            return
        self.missing = ""
        self.living = [pod for pod in seen.values() if pod.phase in ("Pending", "Running")]
        gone = [pod for pod in self.pods if pod.name not in seen]  # deleted pods keep what is known of them
        self.pods = sorted(
            [*gone, *seen.values()], key=lambda pod: (pod.task, pod.attempt, pod.started or 0.0)
        )

    def _note(self, run: RunState, store: RunStore, blind: bool) -> None:
        if blind:
            run.notes.append(
                "KFP's API says no more of the tasks (Argo has packed the workflow's nodes away); "
                "what is shown comes from the pods and the object store"
            )
        if self.missing and (blind or not run.ended):
            run.notes.append(f"pods are not seen from here: {self.missing}")
        if store.problem and (blind or not run.ended):
            run.notes.append(f"progress is not seen from here: {store.problem} [{store.root}]")


def _take_details(run: RunState, details: Sequence[Mapping[str, Any]]) -> None:
    """KFP's own view: a node of the workflow for each task, beside those of its driver and its pod."""
    by_name = {task.name.rpartition("/")[2]: task for task in run.tasks}
    for detail in details:
        name = str(detail.get("display_name") or "")
        task = by_name.get(ATTEMPT.sub("", name))
        state = STATES.get(str(detail.get("state", "")).upper())
        if task is None or state is None or (ATTEMPT.search(name) and task.state != "pending"):
            continue
        task.state = state
        task.started, task.finished = seconds(detail.get("start_time")), seconds(detail.get("end_time"))
        if state == "succeeded" and task.started and task.started == task.finished:
            task.state = "cached"  # no pod starts and ends within a second
        task.why = str((detail.get("error") or {}).get("message") or "")


def _take_pods(run: RunState, pods: Sequence[Pod]) -> None:
    """The pods know better: a task runs for KFP while its pod waits."""
    by_name = {task.name: task for task in run.tasks} | {task.title: task for task in run.tasks}
    newest: dict[str, Pod] = {}
    for pod in pods:  # the last attempt of a task comes last
        if task := by_name.get(pod.title) or by_name.get(pod.task):
            newest[task.name] = pod
            task.attempts = max(task.attempts, pod.attempt + 1)
    for name, pod in newest.items():
        task = by_name[name]
        task.pod, task.why = pod.name, pod.why
        between = pod.phase == "Failed" and task.state == "running" and not run.ended  # Argo starts it again
        if task.state not in ("succeeded", "cached", "failed") and not between:
            task.state = PODS.get(pod.phase, "pending")
            task.started, task.finished = task.started or pod.started, pod.finished


def _take_progress(run: RunState, progress: Mapping[str, Mapping[str, Any]]) -> None:
    for title, line in progress.items():
        if task := run.task(title):
            task.progress = dict(line)
            task.attempts = max(task.attempts, int(line.get("attempt") or 0))
            if task.state == "pending" and not task.why:
                task.state = "running"
                task.started = task.started or float(line.get("time") or 0.0) or None


def _take_outputs(run: RunState, written: set[str]) -> None:
    for task in run.tasks:
        if task.state in ("pending", "running") and written & {task.title, task.name}:
            task.state = "succeeded"


def _blind(run: RunState, details: Sequence[Mapping[str, Any]]) -> bool:
    """Whether KFP has stopped to say how the tasks are: nodes without a name or a state, or none at all."""
    nameless = any(not detail.get("display_name") or not detail.get("state") for detail in details)
    stale = run.ended and any(str(detail.get("state", "")).upper() == "RUNNING" for detail in details)
    return nameless or stale or (run.state == "running" and not details)


def _settle(run: RunState) -> None:
    """What a run that has ended makes of tasks of which nothing is known."""
    for task in run.tasks:
        task.attempts = max(task.attempts, int(task.state in ("running", "succeeded", "failed")))
        if not run.ended or task.state not in ("pending", "running"):
            continue
        if run.state == "succeeded":
            task.state = "succeeded"
        elif task.state == "running":
            task.state = "cancelled"
