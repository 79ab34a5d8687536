"""Ranks over several pods: a job of Kubeflow's training operator, made by the phase's pod and watched by it.

A TrainJob (trainer.kubeflow.org/v1alpha1) where Kubeflow Trainer is, a PyTorchJob (kubeflow.org/v1) where only the older
operator is: the API says which. Its pods run this pod's image and environment under torchrun; they read the inputs from the
store, keep their checkpoints there, and rank 0 publishes there. This pod fetches the artifact, and ends the job whatever
happens: at its end, at a failure, at SIGTERM.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import stopping
from ..errors import ConfigError, Interrupted, PhaseFailed
from ..request.inputs import COMMON, MOUNTS, Request
from ..store import local_copy
from ..store.uri import SCHEMES

TRAINER, OPERATOR = ("trainer.kubeflow.org", "v1alpha1", "trainjobs"), ("kubeflow.org", "v1", "pytorchjobs")
RUNTIME = "torch-distributed"
"""The ClusterTrainingRuntime that Kubeflow Trainer brings for torchrun."""
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TICK = 5.0
STOP_SECONDS = 600.0
"""So long the job's pods may write their checkpoint after a SIGTERM."""
LOG_LINES = 40
RANK_0_PORT = "29500"


@dataclass(frozen=True)
class Group:
    """Pods, ranks in each, and what was asked to start them."""

    nodes: int
    processes: int | str
    launcher: str


def run(phase: str, request: Request, group: Group, say: Callable[[str], None], tick: float = TICK) -> None:
    """Run the phase in a job's pods, and put what they publish at the request's target.

    :param tick: seconds between two looks at the job.
    :raises ConfigError: there is no store that all pods reach, no cluster, or no training operator.
    :raises PhaseFailed: the job failed; the end of its log was said.
    :raises Interrupted: SIGTERM came; the job's pods were stopped.
    """
    root = request.checkpoint_root
    if root.partition("://")[0] not in SCHEMES:
        raise ConfigError(
            f"{group.nodes} nodes need a store that all of them reach",
            where=f"checkpoints in {root or 'the pod'}",
            fix="give the run an S3 store (parameter checkpoint_root), or set engine.nodes: 1",
        )
    cluster = Cluster()
    kind = cluster.kind_of_job(group.launcher, say)
    pod = cluster.own_pod()
    # The same work has the same address: what a job has published before its maker was killed is not made again.
    work = hashlib.sha256(executor_input(request, "").encode()).hexdigest()[:16]
    target = f"{root.rstrip('/')}/jobs/{phase}-{work}"
    arguments = ["--step", request.step, "--executor-input", executor_input(request, target)]
    job = job_of(kind, phase, pod, arguments, group)
    name = job["metadata"]["name"]
    cluster.create(kind, job)
    say(f"{kind[2]} {name} runs {group.nodes} pods")
    try:
        _watch(cluster, kind, name, say, tick)
    finally:
        cluster.delete(kind, name)
    folder = local_copy.download(target, local_copy.inputs())
    shutil.copytree(folder, request.target, dirs_exist_ok=True)


def executor_input(request: Request, target: str) -> str:
    """What the job's pods are asked: the same work, with addresses in the store for the launcher's folders.

    :param target: where rank 0 publishes.
    """
    artifacts = {
        name: {"artifacts": [{"name": name, "customPath": in_store(address)} for address in addresses]}
        for name, addresses in request.inputs.items()
    }
    asked = {name: getattr(request, name) for name in COMMON}
    values = request.parameters | {name: value for name, value in asked.items() if value not in (None, "")}
    output = {"name": request.output_name, "uri": target, "customPath": target}
    return json.dumps(
        {
            "inputs": {"parameterValues": values, "artifacts": artifacts},
            "outputs": {
                "artifacts": {request.output_name: {"artifacts": [output]}},
                "outputFile": "/tmp/outputs.json",
            },
        }
    )


def in_store(path: str) -> str:
    """The address of an artifact that KFP's launcher has put at `path`; an address stays one."""
    for scheme, mount in MOUNTS.items():
        if path.startswith(mount) and scheme in SCHEMES:
            return f"{scheme}://{path.removeprefix(mount)}"
    return path


def job_of(
    kind: tuple[str, str, str], phase: str, pod: Mapping[str, Any], arguments: Sequence[str], group: Group
) -> dict[str, Any]:
    """The job, with the image, environment and resources of the container that asks for it.

    :param kind: group, version, plural.
    :param pod: this pod, as the API has it.
    :param arguments: of the phase.
    """
    own = next((c for c in pod["spec"]["containers"] if c["name"] == "main"), pod["spec"]["containers"][0])
    # What is this pod's own: KFP's names of it, and the retries, which it does itself.
    environment = [each for each in own.get("env", []) if not each["name"].startswith("KFP_")]
    environment.append({"name": "FORGE_RETRIES", "value": "0"})
    metadata = {
        "name": f"{pod['metadata']['name']}-ranks"[-63:].strip("-."),
        "namespace": pod["metadata"]["namespace"],
        "labels": {"app.kubernetes.io/part-of": "agent-forge", "agent-forge/phase": phase},
        # It goes with the pod that made it, even where that was killed.
        "ownerReferences": [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": pod["metadata"]["name"],
                "uid": pod["metadata"]["uid"],
            }
        ],
    }
    ranks = "gpu" if group.processes == "auto" else str(group.processes)
    module = ["--module", f"components.{phase}", *arguments]
    if kind == TRAINER:
        trainer: dict[str, Any] = {
            "image": own["image"],
            "command": ["python", "-m", "torch.distributed.run"],
            "args": module,  # how many and where: Kubeflow Trainer says it to torchrun in PET_…
            "numNodes": group.nodes,
            "numProcPerNode": "auto" if group.processes == "auto" else int(group.processes),
            "env": environment,
            "resourcesPerNode": own.get("resources", {}),
        }
        spec: dict[str, Any] = {"runtimeRef": {"name": RUNTIME}, "trainer": trainer}
        return {"apiVersion": "/".join(kind[:2]), "kind": "TrainJob", "metadata": metadata, "spec": spec}
    container = {
        "name": "pytorch",
        "image": own["image"],
        "command": ["python", "-m", "torch.distributed.run"],
        "args": [
            *("--nnodes", str(group.nodes), "--nproc-per-node", ranks, "--node-rank", "$(RANK)"),
            *("--master-addr", "$(MASTER_ADDR)", "--master-port", RANK_0_PORT, *module),
        ],
        "env": environment,
        "resources": own.get("resources", {}),
    }
    template = {
        "spec": {
            "containers": [container],
            "serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
            "terminationGracePeriodSeconds": int(STOP_SECONDS),
        }
    }
    replicas = {
        "Master": {"replicas": 1, "restartPolicy": "Never", "template": template},
        "Worker": {"replicas": group.nodes - 1, "restartPolicy": "Never", "template": template},
    }
    spec = {"pytorchReplicaSpecs": replicas, "runPolicy": {"cleanPodPolicy": "None", "backoffLimit": 0}}
    return {"apiVersion": "/".join(kind[:2]), "kind": "PyTorchJob", "metadata": metadata, "spec": spec}


def _watch(
    cluster: Cluster, kind: tuple[str, str, str], name: str, say: Callable[[str], None], tick: float
) -> None:
    """Wait for the job's end, and say what becomes of it.

    :raises PhaseFailed: it failed.
    :raises Interrupted: this pod was asked to stop.
    """
    state = ""
    while True:
        if stopping.stop_requested():
            raise Interrupted(
                f"stopped as asked; the pods of {name} get a SIGTERM and write a checkpoint",
                fix="start it again to go on",
            )
        now = cluster.state_of(kind, name)
        if now != state:
            state = now
            say(f"{name}: {state}")
        if state == "complete":
            return
        if state == "failed":
            for pod, text in cluster.logs(name).items():
                say(f"the end of the log of {pod}:\n{text}")
            raise PhaseFailed(
                f"the job {name} failed",
                why="a rank in one of its pods ended with an error",
                fix="read the logs above; started again, the phase goes on from its last checkpoint",
                transient=True,
            )
        time.sleep(tick)


class Cluster:
    """What this pod asks of the cluster's API, by the client of Kubernetes.

    :raises ConfigError: the client is not installed, or there is no cluster around this process.
    """

    def __init__(self) -> None:
        try:
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
        self.core, self.custom, self.apis = client.CoreV1Api(), client.CustomObjectsApi(), client.ApisApi()
        self.namespace = (
            POD_NAMESPACE.read_text().strip()
            if POD_NAMESPACE.exists()
            else os.environ.get("KFP_NAMESPACE", "default")
        )

    def kind_of_job(self, launcher: str, say: Callable[[str], None]) -> tuple[str, str, str]:
        """What is there of what was asked for.

        :raises ConfigError: neither operator is.
        """
        there = {
            (each.name, version.version)
            for each in self.apis.get_api_versions().groups
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
        pod = self.core.read_namespaced_pod(name, self.namespace)
        found: dict[str, Any] = self.core.api_client.sanitize_for_serialization(pod)
        return found

    def create(self, kind: tuple[str, str, str], job: Mapping[str, Any]) -> None:
        """Make a job."""
        self.custom.create_namespaced_custom_object(*kind[:2], self.namespace, kind[2], job)

    def delete(self, kind: tuple[str, str, str], name: str) -> None:
        """End a job, and its pods with it."""
        self.custom.delete_namespaced_custom_object(
            *kind[:2], self.namespace, kind[2], name, propagation_policy="Foreground"
        )

    def state_of(self, kind: tuple[str, str, str], name: str) -> str:
        """`waiting`, `running`, `complete` or `failed`."""
        job = self.custom.get_namespaced_custom_object(*kind[:2], self.namespace, kind[2], name)
        true = {
            each["type"] for each in job.get("status", {}).get("conditions", []) if each["status"] == "True"
        }
        if true & {"Failed"}:
            return "failed"
        if true & {"Complete", "Succeeded"}:
            return "complete"
        counts = job.get("status", {}).get("replicaStatuses", {}).values()
        active = any(each.get("active") for each in counts)
        return "running" if active or "Running" in true else "waiting"

    def logs(self, job: str) -> dict[str, str]:
        """The last lines of each of a job's pods, by pod."""
        selectors = (f"jobset.sigs.k8s.io/jobset-name={job}", f"training.kubeflow.org/job-name={job}")
        pods = {
            pod.metadata.name
            for selector in selectors
            for pod in self.core.list_namespaced_pod(self.namespace, label_selector=selector).items
        }
        return {
            pod: str(self.core.read_namespaced_pod_log(pod, self.namespace, tail_lines=LOG_LINES))
            for pod in sorted(pods)
        }
