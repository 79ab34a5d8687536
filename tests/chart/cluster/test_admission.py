"""A real API server takes every object and every pod of ours, in a namespace that enforces `restricted`."""

from __future__ import annotations

import copy

import pytest

from pipelines import agent_forge
from pipelines import cluster as cluster_settings
from tests.chart.cluster import kfp_pods
from tests.chart.cluster.control_plane import Cluster
from tests.chart.rendering import TABLE, Object, pod_templates, render

CUSTOM = ("ServiceMonitor",)
"""Kinds whose definitions are not the chart's to install."""


@pytest.fixture(scope="module")
def own_account(cluster: Cluster, namespace: str) -> None:
    """The service account of the chart's pods."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "agent-forge", "namespace": namespace},
        }
    )


def _pod(template: Object, namespace: str) -> Object:
    """The pod that a controller makes of its template."""
    pod = copy.deepcopy(template)
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] = {"labels": pod["metadata"]["labels"], "generateName": "p-", "namespace": namespace}
    return pod


@pytest.mark.parametrize("table", TABLE)
def test_the_server_takes_every_object(table: str, cluster: Cluster, namespace: str) -> None:
    """RoleBindings are left out where they name a role that this cluster has not; OpenShift's has."""
    objects = [thing for thing in render(table, namespace=namespace) if thing["kind"] not in (*CUSTOM, "Pod")]
    assert not cluster.refusal(*objects)


@pytest.mark.usefixtures("own_account")
@pytest.mark.parametrize("table", TABLE)
def test_restricted_admits_every_pod_of_the_chart(table: str, cluster: Cluster, namespace: str) -> None:
    pods = [_pod(template, namespace) for _, template in pod_templates(render(table, namespace=namespace))]
    assert pods
    assert not cluster.refusal(*pods)


@pytest.mark.parametrize("name", sorted(path.stem for path in cluster_settings.FOLDER.glob("*.yaml")))
def test_restricted_admits_every_pod_of_the_pipeline(name: str, cluster: Cluster, namespace: str) -> None:
    compiled = agent_forge.text(agent_forge.pipeline(cluster=cluster_settings.load(name)))
    pods = dict(kfp_pods.pods(compiled, namespace))
    assert len(pods) >= 20
    assert not cluster.refusal(*pods.values())


def test_restricted_refuses_a_pod_that_is_not(cluster: Cluster, namespace: str) -> None:
    """What the tests above would see."""
    compiled = agent_forge.text(agent_forge.pipeline(start="bitnet", end="bitnet"))
    pod = dict(kfp_pods.pods(compiled, namespace))["bitnet"]
    pod["spec"]["containers"][0]["securityContext"] = {"runAsUser": 0}
    refused = cluster.refusal(pod)
    for reason in ("allowPrivilegeEscalation", "unrestricted capabilities", "runAsNonRoot", "runAsUser=0"):
        assert reason in refused


def test_the_server_refuses_a_field_that_it_does_not_know(cluster: Cluster, namespace: str) -> None:
    (config,) = [
        copy.deepcopy(thing) for thing in render(namespace=namespace) if thing["kind"] == "ConfigMap"
    ]
    config["dataa"] = {}
    assert 'unknown field "dataa"' in cluster.refusal(config)
