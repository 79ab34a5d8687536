"""What the pods of the pipeline ask of Kubernetes: configs/cluster/<name>.yaml, and how it is put on a task.

Fixed when compiling: resources, shared memory, scratch space, timeouts, retries, queue, security. Changed from run to
run, as parameters of the pipeline: accelerator, tolerations and node selectors of GPU pods and of CPU pods, where
checkpoints go, and the names of the ConfigMap and the Secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from kfp import kubernetes
from pydantic import BaseModel, ConfigDict, Field

from components.shared.phase_spec import PhaseSpec
from components.shared.runtime.code import CONFIGS
from components.shared.runtime.errors import ConfigError

from .phases import PHASES

FOLDER = CONFIGS / "cluster"
CONFIG_MAP_KEYS = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "AWS_ENDPOINT_URL", "AWS_REGION")
SECRET_KEYS = {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}
RUN_LABEL = "metadata.labels['pipeline/runid']"
"""KFP labels every pod with its run. Read through the pod, the run's id is in no cache key; as a parameter
it would be.
"""
REPORT = PhaseSpec("report", "The page of the run.", timeout_seconds=3600)
"""The task that is no phase and has its place: light, on a CPU, soon over."""

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?([KMGT]i?|m)?$")]
"""An amount in Kubernetes' own notation: 500m, 2Gi."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Retries(_Strict):
    """How often what failed is tried again, by Argo and, where the cause is one that passes, inside the pod.

    The pause before the first retry is `backoff_seconds` and grows by `factor`.
    """

    count: int = Field(ge=0)
    backoff_seconds: int = Field(ge=0)
    factor: float = Field(ge=1)

    def deadline(self, timeout: int) -> int:
        """Seconds for all attempts and the pauses between them, each attempt taking at most `timeout`.

        Argo counts `maxDuration` from the first attempt's start: less than this would end an attempt that is
        within its own time.
        """
        pauses = sum(self.backoff_seconds * self.factor**n for n in range(self.count))
        return int(timeout * (self.count + 1) + pauses) + 60


class Amount(_Strict):
    """CPU and memory. None: no such request or limit."""

    cpu: Quantity | None
    memory: Quantity | None


class Pod(_Strict):
    """A kind of pod. `scratch` is the size of its /tmp on the node's disk: a pod that outgrows it is evicted."""

    requests: Amount
    limits: Amount
    scratch: Quantity


class Timeout(_Strict):
    """How long one attempt of one task may take: what its phase declares, stretched or cut.

    :param factor: by which the phases' own timeouts are multiplied.
    :param most: seconds that none exceeds; None for no such bound.
    :param seconds: phases (or "report") that get so many, whatever they declare.
    """

    factor: float = Field(gt=0)
    most: int | None = Field(ge=1)
    seconds: dict[str, int]

    def of(self, phase: PhaseSpec) -> int:
        """Seconds that an attempt of this phase may take."""
        if phase.name in self.seconds:
            return self.seconds[phase.name]
        stretched = int(phase.timeout_seconds * self.factor)
        return stretched if self.most is None else min(stretched, self.most)


class Spot(_Strict):
    """Nodes that may be taken away: phases that may run there, which then prefer them."""

    phases: tuple[str, ...]
    label: dict[str, str]
    taint: dict[str, str]


class Queue(_Strict):
    """Kueue: the LocalQueue that pods wait in and their WorkloadPriorityClass; empty for none."""

    name: str
    priority: str


class Security(_Strict):
    """Who a pod's process is; None leaves it to the cluster (OpenShift gives each namespace its own range)."""

    user: int | None = Field(ge=1)
    group: int | None = Field(ge=1)


class Defaults(_Strict):
    """Defaults of the pipeline's parameters that speak of the cluster."""

    accelerator_type: str
    accelerator_limit: str = Field(pattern=r"^\d+$")
    gpu_tolerations: list[dict[str, Any]]
    gpu_node_selector: dict[str, str]
    cpu_tolerations: list[dict[str, Any]]
    cpu_node_selector: dict[str, str]
    config_map: str
    s3_secret: str
    checkpoint_root: str


MEANING = {
    "accelerator_type": "the resource that a GPU phase asks for, such as nvidia.com/gpu",
    "accelerator_limit": 'how many of them; "0" on a cluster without',
    "gpu_tolerations": "tolerations of the pods that ask for an accelerator",
    "gpu_node_selector": "node labels that these pods need",
    "cpu_tolerations": "tolerations of all other pods",
    "cpu_node_selector": "node labels that those need",
    "config_map": f"the ConfigMap with {', '.join(CONFIG_MAP_KEYS)}; it and each key may be missing",
    "s3_secret": "the Secret with accesskey and secretkey of the object store; may be missing",
    "checkpoint_root": "where checkpoints go; empty for the run's own place in the object store",
}
"""What KFP's page says of these parameters."""


class Cluster(_Strict):
    """One file of configs/cluster."""

    shm: Quantity
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"]
    image_pull_secrets: tuple[str, ...]
    gpu_phases: Literal["declared", "all"] | tuple[str, ...]
    pods: dict[Literal["gpu", "cpu"], Pod]
    retries: Retries
    timeout: Timeout
    spot: Spot
    queue: Queue
    security: Security
    workflow_bytes: int = Field(ge=1)
    parameters: Defaults

    def wants_gpu(self, phase: PhaseSpec) -> bool:
        """Whether the pods of this phase ask for an accelerator, but for those of its light steps."""
        if isinstance(self.gpu_phases, tuple):
            return phase.name in self.gpu_phases
        return self.gpu_phases == "all" or phase.gpu


def load(name: str = "default") -> Cluster:
    """configs/cluster/<name>.yaml.

    :raises ConfigError: no such file, or a value in it that does not fit.
    """
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise ConfigError(
            f"there are no cluster settings {name!r}", where=str(FOLDER), fix=f"use one of {known}"
        )
    try:
        cluster = Cluster.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError("the cluster settings do not fit", where=str(path), why=str(error)) from error
    named = cluster.gpu_phases if isinstance(cluster.gpu_phases, tuple) else ()
    if unknown := sorted(
        {*named, *cluster.spot.phases, *(set(cluster.timeout.seconds) - {REPORT.name})} - set(PHASES)
    ):
        raise ConfigError(
            f"there is no phase {', '.join(unknown)}",
            where=f"{path}, gpu_phases, spot.phases and timeout.seconds",
            fix=f"use {', '.join(PHASES)}",
        )
    return cluster


def place(
    task: Any,
    name: str,
    phase: PhaseSpec,
    cluster: Cluster,
    channels: Mapping[str, Any],
    *,
    light: bool = False,
) -> Any:
    """Give a task its resources, its place, its retries, its time and its environment.

    :param name: what the task calls itself in logs, progress and MLflow.
    :param channels: the pipeline's parameters by name, as KFP's channels.
    :param light: it only copies or chooses, and needs no accelerator whatever its phase.
    """
    kind: Literal["gpu", "cpu"] = "gpu" if cluster.wants_gpu(phase) and not light else "cpu"
    _resources(task, cluster.pods[kind])
    if kind == "gpu":
        task.set_accelerator_type(channels["accelerator_type"])
        task.set_accelerator_limit(channels["accelerator_limit"])
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=cluster.shm)
    kubernetes.add_toleration_json(task, channels[f"{kind}_tolerations"])
    kubernetes.add_node_selector_json(task, channels[f"{kind}_node_selector"])
    if phase.name in cluster.spot.phases:
        _prefer(task, cluster.spot)
    _last(task, phase, cluster)
    task.set_env_variable("FORGE_TASK", name)
    _admit(task, cluster)
    kubernetes.use_config_map_as_env(
        task, channels["config_map"], {key: key for key in CONFIG_MAP_KEYS}, optional=True
    )
    kubernetes.use_secret_as_env(task, channels["s3_secret"], SECRET_KEYS, optional=True)
    kubernetes.use_field_path_as_env(task, "FORGE_PIPELINE_RUN", RUN_LABEL)
    return task


def reach_hub(task: Any, channels: Mapping[str, Any]) -> Any:
    """Tell a task where the hub of models is, and with which token it is asked."""
    kubernetes.use_config_map_as_env(
        task, channels["config_map"], {"HF_ENDPOINT": "HF_ENDPOINT"}, optional=True
    )
    kubernetes.use_secret_as_env(task, channels["hub_secret"], {"token": "HF_TOKEN"}, optional=True)
    return task


def _resources(task: Any, pod: Pod) -> None:
    for amount, cpu, memory in (
        (pod.requests, task.set_cpu_request, task.set_memory_request),
        (pod.limits, task.set_cpu_limit, task.set_memory_limit),
    ):
        if amount.cpu:
            cpu(amount.cpu)
        if amount.memory:
            memory(amount.memory)
    # All that a phase writes beside its inputs and outputs is below /tmp, so that its root may be read-only.
    kubernetes.empty_dir_mount(task, "scratch", "/tmp", size_limit=pod.scratch)


def _prefer(task: Any, spot: Spot) -> None:
    """Spot nodes first, others where there are none."""
    if spot.taint:
        kubernetes.add_toleration(task, **spot.taint)  # type: ignore[arg-type]
    expressions = [{"key": key, "operator": "In", "values": [value]} for key, value in spot.label.items()]
    if expressions:
        kubernetes.add_node_affinity(task, match_expressions=expressions, weight=100)


def _last(task: Any, phase: PhaseSpec, cluster: Cluster) -> None:
    """How long an attempt may take, and what becomes of a failed one."""
    retries, timeout = cluster.retries, cluster.timeout.of(phase)
    kubernetes.set_timeout(task, timeout)
    task.set_retry(
        retries.count,
        backoff_duration=f"{retries.backoff_seconds}s",
        backoff_factor=retries.factor,
        backoff_max_duration=f"{retries.deadline(timeout)}s",
    )
    task.set_env_variable("FORGE_RETRIES", str(retries.count))
    task.set_env_variable("FORGE_RETRY_SECONDS", str(retries.backoff_seconds))
    task.set_env_variable("FORGE_RETRY_FACTOR", f"{retries.factor:g}")


def _admit(task: Any, cluster: Cluster) -> None:
    """What admission looks at: image, security, queue. The backend drops all capabilities by itself."""
    kubernetes.set_image_pull_policy(task, cluster.image_pull_policy)
    if cluster.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.image_pull_secrets))
    kubernetes.set_security_context(
        task,
        run_as_user=cluster.security.user,
        run_as_group=cluster.security.group,
        run_as_non_root=True,
    )
    for label, value in (("queue-name", cluster.queue.name), ("priority-class", cluster.queue.priority)):
        if value:
            kubernetes.add_pod_label(task, f"kueue.x-k8s.io/{label}", value)
