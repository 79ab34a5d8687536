"""Ranks over several pods: a job of Kubeflow's training operator, made by the phase's pod and watched by it.

A TrainJob (trainer.kubeflow.org/v1alpha1) where Kubeflow Trainer is, a PyTorchJob (kubeflow.org/v1) where only the older
operator is: the API says which. Its pods run this pod's image and environment under torchrun; they read the inputs from the
store, keep their checkpoints there, and rank 0 publishes there. This pod fetches the artifact, and ends the job whatever
happens: at its end, at a failure, at SIGTERM.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from typing import Any

from .. import stopping
from ..errors import ConfigError, ForgeError, Interrupted, PhaseFailed
from ..request.inputs import COMMON, MOUNTS, Request
from ..store import local_copy
from ..store.uri import SCHEMES
from .cluster_api import Cluster, Kind
from .job_objects import STOP_SECONDS, TRAINER, Group, name_of, pytorch_job, train_job

TICK = 5.0
"""Seconds between two looks at the job."""


def run(phase: str, request: Request, group: Group, say: Callable[[str], None], tick: float = TICK) -> None:
    """Run the phase in a job's pods, and put what they publish at the request's target.

    :param tick: seconds between two looks at the job.
    :raises ConfigError: there is no store that all pods reach, no cluster, or no training operator.
    :raises PhaseFailed: the job failed, and the end of its log was said; or the cluster's API refuses or is silent.
    :raises Interrupted: SIGTERM came; the job's pods were stopped.
    """
    root = request.checkpoint_root
    if root.partition("://")[0] not in SCHEMES:
        raise ConfigError(
            f"{group.nodes} nodes need a store that all of them reach",
            where=f"checkpoints in {root or 'the pod'}",
            fix="give the run an S3 store (parameter checkpoint_root), or set engine.nodes: 1",
        )
    cluster = Cluster(tick)
    kind = cluster.kind_of_job(group.launcher, say)
    pod = cluster.own_pod()
    # The same work has the same address: what a job has published before its maker was killed is not made again.
    work = hashlib.sha256(executor_input(request, "").encode()).hexdigest()[:16]
    target = f"{root.rstrip('/')}/jobs/{phase}-{work}"
    arguments = ["--step", request.step, "--executor-input", executor_input(request, target)]
    name = name_of(phase, pod)
    cluster.clear(kind, name, 2 * STOP_SECONDS)
    try:
        cluster.create(kind, _job(cluster, kind, phase, pod, arguments, group, say))
        say(f"{kind[2]} {name} runs {group.nodes} pods")
        _watch(cluster, kind, name, say, tick)
    finally:
        _end(cluster, kind, name, say)
    folder = local_copy.download(target, local_copy.inputs())
    shutil.copytree(folder, request.target, dirs_exist_ok=True)


def _job(
    cluster: Cluster,
    kind: Kind,
    phase: str,
    pod: dict[str, Any],
    arguments: list[str],
    group: Group,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The job; what its pods cannot have of this one is said."""
    if kind != TRAINER:
        return pytorch_job(phase, pod, arguments, group)
    job, lost = train_job(phase, pod, arguments, group, cluster.schema_of_spec(kind))
    if lost:
        say(f"this Kubeflow Trainer leaves to its runtime what this pod has as {', '.join(lost)}")
    return job


def _end(cluster: Cluster, kind: Kind, name: str, say: Callable[[str], None]) -> None:
    """Delete the job. Where that fails it goes with this pod, and what has ended the work is what is told."""
    try:
        cluster.delete(kind, name)
    except ForgeError as error:
        say(str(error))


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


def _watch(cluster: Cluster, kind: Kind, name: str, say: Callable[[str], None], tick: float) -> None:
    """Wait for the job's end, and say what becomes of it, and what keeps its pods from starting.

    :raises PhaseFailed: it failed.
    :raises Interrupted: this pod was asked to stop.
    """
    state, told = "", dict[str, str]()
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
            for pod, text in cluster.logs(kind, name).items():
                say(f"the end of the log of {pod}:\n{text}")
            raise PhaseFailed(
                f"the job {name} failed",
                why="a rank in one of its pods ended with an error",
                fix="read the logs above; started again, the phase goes on from its last checkpoint",
                transient=True,
            )
        reasons = cluster.held_up(kind, name)
        for pod, reason in reasons.items():
            if told.get(pod) != reason:
                say(f"{pod} does not start: {reason}")
        told = reasons
        time.sleep(tick)
