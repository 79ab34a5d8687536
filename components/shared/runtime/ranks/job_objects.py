"""What a training operator is asked for: a TrainJob or a PyTorchJob whose pods are like the pod that asks.

Image, environment, resources and place are this pod's: a cluster that has a taint before its GPUs, or a policy before its
pods, wants of the job's pods what it wanted of the phase's. A PyTorchJob has a template of pods. A TrainJob changes that of
its runtime, by a field that releases of Kubeflow Trainer name anew under the same version (podSpecOverrides in 2.0,
podTemplateOverrides in 2.1, runtimePatches from 2.2), and an API server drops in silence what it does not know: what goes
into it is asked of the server's own schema.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TRAINER, OPERATOR = ("trainer.kubeflow.org", "v1alpha1", "trainjobs"), ("kubeflow.org", "v1", "pytorchjobs")
RUNTIME, NODE = "torch-distributed", "node"
"""The ClusterTrainingRuntime that Kubeflow Trainer brings for torchrun; its replicated job, and that job's container."""
MANAGER = "agent-forge/phase"
"""Whose patch of the runtime it is."""
STOP_SECONDS = 600
"""So long the job's pods may write their checkpoint after a SIGTERM."""
PLACE = (
    "tolerations",
    "nodeSelector",
    "affinity",
    "imagePullSecrets",
    "securityContext",
    "serviceAccountName",
)
"""Of a pod: where it may run, as whom, and how it gets its image."""
SCRATCH = ("/dev/shm", "/tmp")
"""What the pipeline mounts (pipelines/cluster.py); all other volumes are KFP's and Argo's."""
RANK_0_PORT = "29500"

Json = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Pods, ranks in each, and what was asked to start them."""

    nodes: int
    processes: int | str
    launcher: str


def name_of(phase: str, pod: Mapping[str, Any]) -> str:
    """The name of the job that a pod makes: short, for its pods' names are longer, and a host's has 63 characters."""
    return f"{phase}-ranks-{hashlib.sha256(pod['metadata']['uid'].encode()).hexdigest()[:10]}"


def pytorch_job(phase: str, pod: Mapping[str, Any], arguments: Sequence[str], group: Group) -> Json:
    """The job of the older operator.

    :param pod: this pod, as the API has it.
    :param arguments: of the phase.
    """
    ranks = "gpu" if group.processes == "auto" else str(group.processes)
    own, spec = _main(pod), pods_like(pod, "pytorch")
    [like_own] = spec["containers"]
    container = {
        **like_own,
        "image": own["image"],
        "command": ["python", "-m", "torch.distributed.run"],
        "args": [
            *("--nnodes", str(group.nodes), "--nproc-per-node", ranks, "--node-rank", "$(RANK)"),
            *("--master-addr", "$(MASTER_ADDR)", "--master-port", RANK_0_PORT),
            *("--module", f"components.{phase}", *arguments),
        ],
        "env": _environment(own),
        "resources": own.get("resources", {}),
    }
    if "imagePullPolicy" in own:
        container["imagePullPolicy"] = own["imagePullPolicy"]
    template = {"spec": {**spec, "containers": [container]}}
    replicas = {
        "Master": {"replicas": 1, "restartPolicy": "Never", "template": template},
        "Worker": {"replicas": group.nodes - 1, "restartPolicy": "Never", "template": template},
    }
    policy = {"cleanPodPolicy": "None", "backoffLimit": 0}
    return _job(OPERATOR, "PyTorchJob", phase, pod, {"pytorchReplicaSpecs": replicas, "runPolicy": policy})


def train_job(
    phase: str, pod: Mapping[str, Any], arguments: Sequence[str], group: Group, schema: Mapping[str, Any]
) -> tuple[Json, list[str]]:
    """The job of Kubeflow Trainer.

    :param pod: this pod, as the API has it.
    :param arguments: of the phase.
    :param schema: of a TrainJob's spec, as the API server has it.
    :returns: it, and what its pods should have of this one and this Kubeflow Trainer does not take.
    """
    own = _main(pod)
    trainer: Json = {
        "image": own["image"],
        "command": ["python", "-m", "torch.distributed.run"],
        # how many and where: Kubeflow Trainer says it to torchrun in PET_…
        "args": ["--module", f"components.{phase}", *arguments],
        "numNodes": group.nodes,
        "env": _environment(own),
        "resourcesPerNode": own.get("resources", {}),
    }
    if group.processes != "auto":  # left out it is one for each GPU
        trainer["numProcPerNode"] = int(group.processes)
    spec: Json = {"runtimeRef": {"name": RUNTIME}, "trainer": trainer}
    wanted, lost = _patch(pods_like(pod, NODE), schema)
    return _job(TRAINER, "TrainJob", phase, pod, spec | wanted), lost


def pods_like(pod: Mapping[str, Any], container: str) -> Json:
    """What the job's pods have of this one, as a pod's spec.

    :param container: the name of theirs.
    """
    own = _main(pod)
    mounts = [each for each in own.get("volumeMounts", []) if each["mountPath"] in SCRATCH]
    names = {each["name"] for each in mounts}
    like_own: Json = {"name": container}
    if mounts:
        like_own["volumeMounts"] = mounts
    if own.get("securityContext"):
        like_own["securityContext"] = own["securityContext"]
    found = {name: pod["spec"][name] for name in PLACE if pod["spec"].get(name)}
    if volumes := [each for each in pod["spec"].get("volumes", []) if each["name"] in names]:
        found["volumes"] = volumes
    return {**found, "terminationGracePeriodSeconds": STOP_SECONDS, "containers": [like_own]}


def _patch(spec: Json, schema: Mapping[str, Any]) -> tuple[Json, list[str]]:
    """The field of a TrainJob that gives its pods what is in `spec`, and what cannot be given."""
    fields = schema.get("properties", {})
    shapes: dict[str, Json] = {
        "runtimePatches": {"manager": MANAGER, "trainingRuntimeSpec": _template(spec)},
        "podTemplateOverrides": {"targetJobs": [{"name": NODE}], "spec": spec},
        "podSpecOverrides": {"targetJobs": [{"name": NODE}], **spec},
    }
    for field, value in shapes.items():
        if field in fields:
            lost: list[str] = []
            return {field: _known([value], fields[field], lost)}, sorted(set(lost))
    return {}, sorted(spec)


def _template(spec: Json) -> Json:
    """The spec of the pods of one replicated job, where a runtime has it."""
    job = {"name": NODE, "template": {"spec": {"template": {"spec": spec}}}}
    return {"template": {"spec": {"replicatedJobs": [job]}}}


def _known(value: Any, schema: Mapping[str, Any], lost: list[str], name: str = "") -> Any:
    """What of a value a schema has; the names of the rest go into `lost`."""
    if isinstance(value, list):
        return [_known(each, schema.get("items", {}), lost, name) for each in value]
    fields = schema.get("properties")
    if not isinstance(value, dict) or not fields:
        return value
    lost += [f"{name}.{key}".strip(".") for key in value if key not in fields]
    return {key: _known(each, fields[key], lost, key) for key, each in value.items() if key in fields}


def _main(pod: Mapping[str, Any]) -> Json:
    """The container that runs the phase."""
    containers: list[Json] = pod["spec"]["containers"]
    return next((each for each in containers if each["name"] == "main"), containers[0])


def _environment(own: Json) -> list[Json]:
    """Without what is this pod's own: KFP's names of it, and the retries, which it does itself."""
    kept = [each for each in own.get("env", []) if not each["name"].startswith(("KFP_", "FORGE_RETRIES"))]
    return [*kept, {"name": "FORGE_RETRIES", "value": "0"}]


def _job(kind: tuple[str, str, str], word: str, phase: str, pod: Mapping[str, Any], spec: Json) -> Json:
    owner = {"apiVersion": "v1", "kind": "Pod", **{key: pod["metadata"][key] for key in ("name", "uid")}}
    metadata = {
        "name": name_of(phase, pod),
        "namespace": pod["metadata"]["namespace"],
        "labels": {"app.kubernetes.io/part-of": "agent-forge", "agent-forge/phase": phase},
        # It goes with the pod that made it, even where that was killed.
        "ownerReferences": [owner],
    }
    return {"apiVersion": "/".join(kind[:2]), "kind": word, "metadata": metadata, "spec": spec}
