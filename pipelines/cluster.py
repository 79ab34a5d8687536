"""What the pods of the pipeline ask of Kubernetes: configs/cluster/<name>.yaml, and how it is put on a task.

Literal when compiling: shared memory, timeouts, retries, requests, pull policy. Changed from run to run, as
parameters of the pipeline: accelerator, tolerations, node selector, and the names of the ConfigMap and the
Secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from kfp import kubernetes
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.shared.runtime.errors import ConfigError

from .phases import PHASES

FOLDER = Path(__file__).resolve().parents[1] / "configs" / "cluster"
CONFIG_MAP_KEYS = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "AWS_ENDPOINT_URL")
SECRET_KEYS = {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}
RUN_LABEL = "metadata.labels['pipeline/runid']"
"""KFP labels every pod with its run. Read through the pod, the run's id is in no cache key; as a parameter
it would be.
"""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Retries(_Strict):
    """How often a failed task is tried again, and how long before."""

    count: int = Field(ge=0)
    backoff_seconds: int = Field(ge=0)
    factor: float = Field(ge=1)
    max_seconds: int = Field(ge=0)


class Request(_Strict):
    """What a pod reserves, in Kubernetes' own notation."""

    cpu: str = Field(pattern=r"^\d+(\.\d+)?m?$")
    memory: str = Field(pattern=r"^\d+(\.\d+)?([KMGT]i?)?$")


class Defaults(_Strict):
    """Defaults of the pipeline's parameters that speak of the cluster."""

    accelerator_type: str
    accelerator_limit: str = Field(pattern=r"^\d+$")
    tolerations: list[dict[str, Any]]
    node_selector: dict[str, str]
    config_map: str
    s3_secret: str
    checkpoint_root: str


class Cluster(_Strict):
    """One file of configs/cluster."""

    shm: str
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"]
    retries: Retries
    timeout_seconds: dict[str, int]
    requests: dict[Literal["gpu", "cpu"], Request]
    parameters: Defaults


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
        cluster = Cluster.model_validate(yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError("the cluster settings do not fit", where=str(path), why=str(error)) from error
    if missing := sorted(set(PHASES) ^ set(cluster.timeout_seconds)):
        raise ConfigError(
            "every phase needs its timeout, and nothing else has one",
            where=f"{path}, timeout_seconds",
            why=f"missing or unknown: {', '.join(missing)}",
        )
    return cluster


def place(task: Any, phase: str, cluster: Cluster, settings: Mapping[str, Any], *, gpu: bool) -> Any:
    """Give a task its resources, retries, timeout and environment.

    :param settings: the pipeline's parameters by name, as KFP's channels.
    """
    kind: Literal["gpu", "cpu"] = "gpu" if gpu else "cpu"
    request = cluster.requests[kind]
    retries = cluster.retries
    task.set_cpu_request(request.cpu).set_memory_request(request.memory)
    task.set_retry(
        retries.count,
        backoff_duration=f"{retries.backoff_seconds}s",
        backoff_factor=retries.factor,
        backoff_max_duration=f"{retries.max_seconds}s",
    )
    if gpu:
        task.set_accelerator_type(settings["accelerator_type"])
        task.set_accelerator_limit(settings["accelerator_limit"])
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=cluster.shm)
    kubernetes.set_timeout(task, cluster.timeout_seconds[phase])
    kubernetes.set_image_pull_policy(task, cluster.image_pull_policy)
    kubernetes.add_toleration_json(task, settings["tolerations"])
    kubernetes.add_node_selector_json(task, settings["node_selector"])
    kubernetes.use_config_map_as_env(
        task, settings["config_map"], {key: key for key in CONFIG_MAP_KEYS}, optional=True
    )
    kubernetes.use_secret_as_env(task, settings["s3_secret"], SECRET_KEYS, optional=True)
    kubernetes.use_field_path_as_env(task, "FORGE_PIPELINE_RUN", RUN_LABEL)
    return task
