"""What a phase's pod asks of the cluster's API, by the client of Kubernetes.

A training lasts for days, and an API server is restarted in between: what it does not answer is asked again for minutes,
and only what it refuses ends the phase.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import stopping
from ..errors import ConfigError, ForgeError, Interrupted, PhaseFailed
from .job_objects import OPERATOR, TRAINER

Kind = tuple[str, str, str]
"""Group, version, plural."""
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PATIENCE, LAST_PATIENCE = 600.0, 20.0
"""Seconds for which a question without an answer is asked again; after a SIGTERM, when a pod has half a minute in all."""
ANSWER_SECONDS = 30
"""So long one answer may take."""
LOG_LINES = 40
PASSING = frozenset({0, 408, 429, 500, 502, 503, 504})
"""What an API server says while it is restarted or has too much to do."""
LABEL = {TRAINER: "jobset.sigs.k8s.io/jobset-name", OPERATOR: "training.kubeflow.org/job-name"}
"""By which the pods of a job are known."""
HELD_UP = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
)


class Cluster:
    """The cluster around this process.

    :param tick: seconds between two tries, and between two looks at what has to end.
    :raises ConfigError: the client is not installed, or there is no cluster around this process.
    """

    def __init__(self, tick: float) -> None:
        try:
            import urllib3
            from kubernetes import client, config
        except ImportError as error:
            raise ConfigError(
                "the client of Kubernetes is not installed",
                where="engine.nodes",
                why=str(error),
                fix="pip install 'agent-forge[distributed]', or set engine.nodes: 1",
            ) from error
        try:
            # Named here: the client takes KUBECONFIG as it was when it was imported.
            named = {"config_file": os.environ["KUBECONFIG"]} if os.environ.get("KUBECONFIG") else {}
            config.load_config(**named)
        except config.ConfigException as error:
            raise ConfigError(
                "there is no cluster to make a job in",
                where="engine.nodes",
                why=str(error),
                fix="submit the run to a cluster, or set engine.nodes: 1 and engine.launcher: torchrun",
            ) from error
        self.tick = tick
        self.refusal, self.silence = client.ApiException, urllib3.exceptions.HTTPError
        self.core, self.custom, self.apis = client.CoreV1Api(), client.CustomObjectsApi(), client.ApisApi()
        self.namespace = (
            POD_NAMESPACE.read_text().strip()
            if POD_NAMESPACE.exists()
            else os.environ.get("KFP_NAMESPACE", "default")
        )

    def kind_of_job(self, launcher: str, say: Callable[[str], None]) -> Kind:
        """What is there of what was asked for.

        :raises ConfigError: neither operator is.
        """
        there = {
            (each.name, version.version)
            for each in self._ask("list its APIs", self.apis.get_api_versions).groups
            for version in each.versions
        }
        asked, other = (TRAINER, OPERATOR) if launcher == "trainjob" else (OPERATOR, TRAINER)
        if asked[:2] in there:
            return asked
        if launcher == "trainjob" and other[:2] in there:
            say(f"{'/'.join(asked[:2])} is not installed here; a PyTorchJob runs the pods")
            return other
        raise ConfigError(
            f"the cluster has no {'/'.join(asked[:2])}",
            where="engine.launcher",
            fix="install Kubeflow Trainer, or set engine.nodes: 1 and engine.launcher: torchrun",
        )

    def own_pod(self) -> dict[str, Any]:
        """This pod, as the API has it."""
        name = os.environ.get("KFP_POD_NAME") or os.uname().nodename
        pod = self._ask(f"read pod {name}", self.core.read_namespaced_pod, name, self.namespace)
        found: dict[str, Any] = self.core.api_client.sanitize_for_serialization(pod)
        return found

    def schema_of_spec(self, kind: Kind) -> dict[str, Any]:
        """What the spec of a job of this kind may hold: the API server's own schema (OpenAPI v3)."""
        path = f"/openapi/v3/apis/{'/'.join(kind[:2])}"
        found = self._ask(
            f"read {path}",
            self.core.api_client.call_api,
            *(path, "GET"),
            header_params={"Accept": "application/json"},
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
        )
        for schema in found["components"]["schemas"].values():
            for each in schema.get("x-kubernetes-group-version-kind", []):
                if each["kind"].lower() + "s" == kind[2]:
                    spec: dict[str, Any] = schema["properties"]["spec"]
                    return spec
        return {}

    def create(self, kind: Kind, job: Mapping[str, Any]) -> None:
        """Make a job; one of its name that is there is of a try whose answer was lost."""
        create = self.custom.create_namespaced_custom_object
        self._ask(f"create {kind[2]}", create, *kind[:2], self.namespace, kind[2], job, fine=409)

    def delete(self, kind: Kind, name: str) -> None:
        """End a job, and its pods with it. It is there until they are gone."""
        delete = self.custom.delete_namespaced_custom_object
        self._ask(
            *(f"delete {kind[2]}", delete, *kind[:2], self.namespace, kind[2], name),
            propagation_policy="Foreground",
            fine=404,
        )

    def clear(self, kind: Kind, name: str, seconds: float) -> None:
        """Wait until a job is gone: pods that still write a checkpoint and those that go on from it must not meet.

        :raises PhaseFailed: after so many seconds it is still there.
        :raises Interrupted: this pod was asked to stop.
        """
        until = time.monotonic() + seconds
        while (job := self._job(kind, name)) is not None:
            if stopping.stop_requested():
                raise Interrupted("stopped as asked, before the job was made", fix="start it again to go on")
            if "deletionTimestamp" not in job["metadata"]:
                self.delete(kind, name)
            elif time.monotonic() > until:
                raise PhaseFailed(
                    f"the {kind[2]} {name} of the attempt before does not end",
                    why=f"its pods are there {seconds:g} s after it was deleted",
                    fix=f"look at them: kubectl get pods -n {self.namespace} -l {LABEL[kind]}={name}",
                    transient=True,
                )
            time.sleep(self.tick)

    def state_of(self, kind: Kind, name: str) -> str:
        """`waiting`, `running`, `complete` or `failed`.

        :raises PhaseFailed: somebody has deleted it.
        """
        job = self._job(kind, name)
        if job is None:
            raise PhaseFailed(
                f"the {kind[2]} {name} is gone",
                why="somebody else has deleted it",
                fix="started again, the phase goes on from its last checkpoint",
                transient=True,
            )
        status = job.get("status", {})
        true = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
        if true & {"Failed"}:
            return "failed"
        if true & {"Complete", "Succeeded"}:
            return "complete"
        counts = status.get("replicaStatuses", {}).values()
        active = any(each.get("active") for each in counts)
        return "running" if active or "Running" in true else "waiting"

    def held_up(self, kind: Kind, job: str) -> dict[str, str]:
        """Why pods of a job do not start, by pod: no node takes them, or their image does not come."""
        reasons = {}
        for pod in self._pods(kind, job):
            for condition in pod.status.conditions or []:
                if condition.type == "PodScheduled" and condition.reason == "Unschedulable":
                    reasons[pod.metadata.name] = f"Unschedulable: {condition.message}"
            for container in pod.status.container_statuses or []:
                waiting = container.state.waiting if container.state else None
                if waiting is not None and waiting.reason in HELD_UP:
                    reasons[pod.metadata.name] = f"{waiting.reason}: {waiting.message}"
        return reasons

    def logs(self, kind: Kind, job: str) -> dict[str, str]:
        """The last lines of each of a job's pods, by pod; of one that has none, why."""
        found = {}
        for name in sorted(pod.metadata.name for pod in self._pods(kind, job)):
            read = self.core.read_namespaced_pod_log
            try:
                text = self._ask(f"read the log of {name}", read, name, self.namespace, tail_lines=LOG_LINES)
            except ForgeError as error:
                text = str(error)
            found[name] = str(text)
        return found

    def _job(self, kind: Kind, name: str) -> dict[str, Any] | None:
        get = self.custom.get_namespaced_custom_object
        found: dict[str, Any] | None = self._ask(
            f"get {kind[2]}", get, *kind[:2], self.namespace, kind[2], name, fine=404
        )
        return found

    def _pods(self, kind: Kind, job: str) -> list[Any]:
        pods = self._ask(
            *("list pods", self.core.list_namespaced_pod, self.namespace),
            label_selector=f"{LABEL[kind]}={job}",
        )
        found: list[Any] = pods.items
        return found

    def _ask(
        self, what: str, call: Callable[..., Any], *arguments: Any, fine: int = 0, **options: Any
    ) -> Any:
        """The answer, asked for again where none came.

        :param fine: a status that is an answer, too: None.
        :raises PhaseFailed: none came for as long as `PATIENCE` says, or it was refused.
        """
        begun = time.monotonic()
        while True:
            try:
                return call(*arguments, _request_timeout=ANSWER_SECONDS, **options)
            except self.refusal as error:
                status, why = int(error.status or 0), f"{error.status} {error.reason}: {error.body}"
                if status == fine and fine:
                    return None
            except self.silence as error:
                status, why = 0, str(error)
            passing = status in PASSING
            patience = LAST_PATIENCE if stopping.stop_requested() else PATIENCE
            if not passing or time.monotonic() - begun > patience:
                allowed = "the role of this pod's account has to allow it (the chart's pipeline.trainJobs)"
                raise PhaseFailed(
                    f"the cluster's API does not {what}",
                    where=f"namespace {self.namespace}",
                    why=" ".join(why.split())[:400],
                    fix=allowed if status in (401, 403) else "ask whoever runs the cluster",
                    transient=passing,
                )
            time.sleep(self.tick)
