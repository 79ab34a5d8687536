"""Who may do what, as the API server itself answers, before and after the chart."""

from __future__ import annotations

import json
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
    ("create", "pytorchjobs.kubeflow.org"),
    ("delete", "pytorchjobs.kubeflow.org"),
    ("get", "pods"),
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


def _allowed(cluster: Cluster, namespace: str, account: str, where: str = "") -> set[tuple[str, str]]:
    """What of the table the API server would let an account do.

    `kubectl auth can-i` asks the same, but loses the group of a resource whose definition is not installed.
    """
    user = f"system:serviceaccount:{namespace}:{account}"
    asked = []
    for verb, resource in (*ALLOWED, *DENIED):
        name, _, group = resource.partition(".")
        what = {"namespace": where or namespace, "verb": verb, "resource": name, "group": group}
        asked.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "metadata": {},
                "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": what},
            }
        )
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": asked})
    answered = 'jsonpath={.status.allowed}{"\\n"}'
    answers = cluster.kubectl("create", "--filename", "-", "--output", answered, given=text).split()
    return {pair for pair, answer in zip((*ALLOWED, *DENIED), answers, strict=True) if answer == "true"}


@pytest.fixture(scope="module")
def without(cluster: Cluster, namespace: str) -> set[tuple[str, str]]:
    """What the pipeline's account may do before the chart is there."""
    return _allowed(cluster, namespace, "pipeline-runner")


@pytest.fixture(scope="module")
def installed(cluster: Cluster, namespace: str, without: set[tuple[str, str]]) -> Iterator[None]:
    release = ("agent-forge", "--namespace", namespace)
    cluster.helm("install", "agent-forge", str(CHART), *release[1:], "--no-hooks")
    yield
    cluster.helm("uninstall", *release, "--no-hooks")


def test_before_the_chart_the_account_may_do_none_of_it(without: set[tuple[str, str]]) -> None:
    assert not without


@pytest.mark.usefixtures("installed")
def test_the_pipelines_account_may_do_what_is_listed_and_nothing_else(
    cluster: Cluster, namespace: str
) -> None:
    assert _allowed(cluster, namespace, "pipeline-runner") == set(ALLOWED)


@pytest.mark.usefixtures("installed")
def test_in_other_namespaces_it_may_do_nothing(cluster: Cluster, namespace: str) -> None:
    assert not _allowed(cluster, namespace, "pipeline-runner", where="default")


@pytest.mark.usefixtures("installed")
def test_the_charts_own_account_may_do_nothing(cluster: Cluster, namespace: str) -> None:
    assert not _allowed(cluster, namespace, "agent-forge")


@pytest.mark.usefixtures("installed")
def test_kubectl_says_the_same_of_what_it_knows(cluster: Cluster, namespace: str) -> None:
    who = (f"--as=system:serviceaccount:{namespace}:pipeline-runner", "--namespace", namespace)
    for verb, resource, allowed in (("update", "leases", "yes"), ("delete", "secrets", "no")):
        ended = cluster.run("kubectl", "auth", "can-i", verb, resource, *who, check=False)
        assert str(ended.stdout).strip() == allowed, (verb, resource)
