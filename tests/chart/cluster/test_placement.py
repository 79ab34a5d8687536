"""Where the real scheduler puts the pods of the pipeline: made-up nodes, no kubelet on them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pipelines import agent_forge
from pipelines import cluster as cluster_settings
from tests.chart.cluster import kfp_pods
from tests.chart.cluster.control_plane import Cluster
from tests.chart.rendering import Object

GPU = "nvidia.com/gpu"
ROOM = {"cpu": "512", "memory": "4Ti", "ephemeral-storage": "40Ti", "pods": "200"}
NODES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {"allocatable": ROOM, "taints": [], "labels": {"pool": "cpu"}},
    "gpu": {
        "allocatable": {**ROOM, GPU: "64"},
        "taints": [{"key": GPU, "value": "present", "effect": "NoSchedule"}],
        "labels": {"pool": "gpu"},
    },
    "spot": {
        "allocatable": {**ROOM, GPU: "64"},
        "taints": [
            {"key": GPU, "value": "present", "effect": "NoSchedule"},
            {"key": "example.com/spot", "value": "true", "effect": "NoSchedule"},
        ],
        "labels": {"example.com/spot": "true"},
    },
}
SECONDS = 400.0
"""How long the scheduler may take to look at all pods. It takes 2; a busy machine more."""


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[None]:
    """Three nodes that say that they are ready, and a scheduler that believes them."""
    if not cluster.ours:
        pytest.skip("nodes are made up in a cluster of the tests' own only")
    if not cluster.scheduler:
        pytest.skip("kube-scheduler is not in KUBEBUILDER_ASSETS")
    for name, node in NODES.items():
        cluster.apply(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": node["labels"]}}
        )
        ready = [{"type": "Ready", "status": "True", "reason": "MadeUp"}]
        status = {"allocatable": node["allocatable"], "capacity": node["allocatable"], "conditions": ready}
        cluster.kubectl(
            "patch", "node", name, "--subresource=status", "--patch", json.dumps({"status": status})
        )
        # Admission has put on each the taint of a node that is not ready.
        taints = json.dumps({"spec": {"taints": node["taints"] or None}})
        cluster.kubectl("patch", "node", name, "--type=merge", "--patch", taints)
    yield
    cluster.kubectl("delete", "nodes", *NODES)


def _placed(
    cluster: Cluster, namespace: str, compiled: str, values: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Task → the node that it got, or why it got none. Its pods are removed again."""
    pods = {task: pod for task, pod in kfp_pods.pods(compiled, namespace, values)}
    names = {pod["metadata"]["name"]: task for task, pod in pods.items()}
    cluster.apply(*pods.values())
    try:
        until = time.monotonic() + SECONDS
        while True:
            found = {
                names[pod["metadata"]["name"]]: _place(pod)
                for pod in cluster.get("pods", "--namespace", namespace)["items"]
            }
            if len(found) == len(pods) and all(found.values()):
                return found
            assert time.monotonic() < until, (
                f"the scheduler has not looked at all pods in {SECONDS:g} s: {found}"
            )
            time.sleep(0.3)
    finally:
        cluster.kubectl("delete", "pods", "--all", "--namespace", namespace, "--force", "--grace-period=0")


def _place(pod: Object) -> str:
    if node := pod["spec"].get("nodeName"):
        return str(node)
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition["message"])
    return ""


def _wants_gpu(pod: Object) -> bool:
    return any(int(c.get("resources", {}).get("limits", {}).get(GPU, 0)) for c in pod["spec"]["containers"])


def _gpu_tasks(compiled: str) -> set[str]:
    return {task for task, pod in kfp_pods.pods(compiled, "any") if _wants_gpu(pod)}


@pytest.mark.usefixtures("nodes")
def test_gpu_pods_go_to_gpu_nodes_and_all_others_to_cpu_nodes(cluster: Cluster, namespace: str) -> None:
    compiled = agent_forge.text(agent_forge.pipeline(cluster=cluster_settings.load("gpu")))
    wanting = _gpu_tasks(compiled)
    placed = _placed(cluster, namespace, compiled)
    assert {"training", "quietstar", "cognate-trunk"} <= wanting
    assert placed == {task: "gpu" if task in wanting else "cpu" for task in placed}


@pytest.mark.usefixtures("nodes")
def test_a_cluster_without_gpus_runs_it_all_on_its_cpus(cluster: Cluster, namespace: str) -> None:
    compiled = agent_forge.text(agent_forge.pipeline(cluster=cluster_settings.load("kind")))
    assert not _gpu_tasks(compiled)
    placed = _placed(cluster, namespace, compiled)
    assert placed == dict.fromkeys(placed, "cpu")


@pytest.mark.usefixtures("nodes")
def test_a_selector_for_gpu_pods_does_not_move_cpu_pods(cluster: Cluster, namespace: str) -> None:
    compiled = agent_forge.text(agent_forge.pipeline(cluster=cluster_settings.load("gpu")))
    wanting = _gpu_tasks(compiled)
    values = {"gpu_node_selector": {"pool": "gpu"}, "cpu_node_selector": {"pool": "cpu"}}
    placed = _placed(cluster, namespace, compiled, values)
    assert placed == {task: "gpu" if task in wanting else "cpu" for task in placed}


@pytest.mark.usefixtures("nodes")
def test_a_gpu_pod_without_a_toleration_waits_and_says_why(cluster: Cluster, namespace: str) -> None:
    compiled = agent_forge.text(
        agent_forge.pipeline(start="training", end="training", cluster=cluster_settings.load("gpu"))
    )
    placed = _placed(cluster, namespace, compiled, {"gpu_tolerations": []})
    assert "untolerated taint" in placed["training"]


@pytest.mark.usefixtures("nodes")
def test_phases_that_may_run_on_spot_nodes_do_and_no_others(cluster: Cluster, namespace: str) -> None:
    spot = cluster_settings.Spot(
        phases=("quietstar",),
        label={"example.com/spot": "true"},
        taint={"key": "example.com/spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
    )
    settings = cluster_settings.load("gpu").model_copy(update={"spot": spot})
    placed = _placed(cluster, namespace, agent_forge.text(agent_forge.pipeline(cluster=settings)))
    assert {task for task, node in placed.items() if node == "spot"} == {"quietstar"}
