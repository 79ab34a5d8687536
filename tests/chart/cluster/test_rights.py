"""Who may do what, as the API server itself answers: `kubectl auth can-i` before and after the chart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chart.cluster.control_plane import Cluster
from tests.chart.rendering import CHART

ALLOWED = [
    ("create", "trainjobs.trainer.kubeflow.org"),
    ("get", "trainjobs.trainer.kubeflow.org"),
    ("list", "trainjobs.trainer.kubeflow.org"),
    ("watch", "trainjobs.trainer.kubeflow.org"),
    ("delete", "trainjobs.trainer.kubeflow.org"),
    ("create", "leases.coordination.k8s.io"),
    ("get", "leases.coordination.k8s.io"),
    ("update", "leases.coordination.k8s.io"),
]
DENIED = [
    ("delete", "secrets"),
    ("get", "secrets"),
    ("create", "pods"),
    ("delete", "leases.coordination.k8s.io"),
    ("list", "leases.coordination.k8s.io"),
    ("update", "trainjobs.trainer.kubeflow.org"),
    ("create", "clustertrainingruntimes.trainer.kubeflow.org"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("impersonate", "serviceaccounts"),
]
TABLE = [(verb, resource, True) for verb, resource in ALLOWED] + [
    (verb, resource, False) for verb, resource in DENIED
]


def _can(cluster: Cluster, namespace: str, account: str, verb: str, resource: str, where: str = "") -> bool:
    who = f"--as=system:serviceaccount:{namespace}:{account}"
    ended = cluster.run(
        "kubectl", "auth", "can-i", verb, resource, who, "--namespace", where or namespace, check=False
    )
    return str(ended.stdout).strip() == "yes"


@pytest.fixture(scope="module")
def without(cluster: Cluster, namespace: str) -> set[tuple[str, str]]:
    """What the pipeline's account may do before the chart is there."""
    return {pair for pair in (*ALLOWED, *DENIED) if _can(cluster, namespace, "pipeline-runner", *pair)}


@pytest.fixture(scope="module")
def installed(cluster: Cluster, namespace: str, without: set[tuple[str, str]]) -> Iterator[None]:
    release = ("agent-forge", "--namespace", namespace)
    cluster.helm("install", "agent-forge", str(CHART), *release[1:], "--no-hooks")
    yield
    cluster.helm("uninstall", *release, "--no-hooks")


def test_before_the_chart_the_account_may_do_none_of_it(without: set[tuple[str, str]]) -> None:
    assert not without


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("verb", "resource", "allowed"), TABLE)
def test_the_pipelines_account_may_do_this_and_not_that(
    verb: str, resource: str, allowed: bool, cluster: Cluster, namespace: str
) -> None:
    assert _can(cluster, namespace, "pipeline-runner", verb, resource) is allowed


@pytest.mark.usefixtures("installed")
def test_in_other_namespaces_it_may_do_nothing(cluster: Cluster, namespace: str) -> None:
    for pair in ALLOWED:
        assert not _can(cluster, namespace, "pipeline-runner", *pair, where="default"), pair


@pytest.mark.usefixtures("installed")
def test_the_charts_own_account_may_do_nothing(cluster: Cluster, namespace: str) -> None:
    for pair in (*ALLOWED, *DENIED):
        assert not _can(cluster, namespace, "agent-forge", *pair), pair
