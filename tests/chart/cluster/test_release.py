"""A release's life on a real API server: installed, upgraded, rolled back, and gone without a trace.

Hooks (the jobs) are left out: without a kubelet none would end. Their objects are in test_admission.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.cluster.control_plane import Cluster
from tests.chart.rendering import CHART, TABLE, values_file

NAMES = ("--no-hooks", "--set", "serviceMonitor.enabled=false")
"""ServiceMonitor is the Prometheus operator's kind; it is not here."""
OWN_NOISE = ("events", "events.events.k8s.io", "secrets")
"""What changes in a namespace without us; Secrets are looked at one by one, as helm keeps its releases there."""


def _let_go(cluster: Cluster, namespace: str) -> None:
    """What the controller-manager does, which is not here: a deleted claim that no pod uses is let go."""
    for claim in cluster.get("pvc", "--namespace", namespace)["items"] if cluster.ours else []:
        if "deletionTimestamp" in claim["metadata"]:
            of = (claim["metadata"]["name"], "--namespace", namespace)
            cluster.kubectl(
                "patch", "pvc", *of, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}'
            )


def _everything(cluster: Cluster, namespace: str) -> set[str]:
    """All objects of the namespace, and the PriorityClasses of the cluster."""
    _let_go(cluster, namespace)
    kinds = cluster.kubectl("api-resources", "--namespaced", "--verbs=list", "--output", "name").split()
    listed = ",".join(kind for kind in kinds if kind not in OWN_NOISE)
    found = cluster.kubectl("get", listed, "--namespace", namespace, "--output", "name").split()
    secrets = cluster.kubectl("get", "secrets", "--namespace", namespace, "--output", "name").split()
    classes = cluster.kubectl("get", "priorityclasses", "--output", "name").split()
    return {*found, *secrets, *classes}


@pytest.fixture
def untouched(cluster: Cluster, namespace: str) -> Iterator[set[str]]:
    """What is there before; whatever the test leaves of its release is removed."""
    yield _everything(cluster, namespace)
    cluster.run("helm", "uninstall", "agent-forge", "--namespace", namespace, "--no-hooks", check=False)
    _let_go(cluster, namespace)


def _config(cluster: Cluster, namespace: str) -> dict[str, Any]:
    return dict(cluster.get("configmap", "agent-forge", "--namespace", namespace)["data"])


@pytest.mark.parametrize("table", TABLE)
def test_install_upgrade_rollback_uninstall_leaves_nothing(
    table: str, cluster: Cluster, namespace: str, untouched: set[str]
) -> None:
    of = ("agent-forge", "--namespace", namespace)
    values = (*NAMES, *values_file(table), "--set", "minio.persistence.keep=false")
    cluster.helm("install", *of[:1], str(CHART), *of[1:], *values)
    installed = _everything(cluster, namespace)
    assert installed > untouched
    before = _config(cluster, namespace)

    cluster.helm("upgrade", *of[:1], str(CHART), *of[1:], *values, "--set", "mlflow.experimentName=other")
    assert _config(cluster, namespace)["MLFLOW_EXPERIMENT_NAME"] == "other"

    cluster.helm("rollback", "agent-forge", "1", *of[1:], "--no-hooks")
    assert _config(cluster, namespace) == before

    cluster.helm("uninstall", *of, "--no-hooks")
    assert _everything(cluster, namespace) == untouched


def test_generated_keys_stay_the_same_over_an_upgrade(
    cluster: Cluster, namespace: str, untouched: set[str]
) -> None:
    """New keys would lock the pods out of the store that was started with the old ones."""

    def keys() -> Any:
        return cluster.get("secret", "mlpipeline-minio-artifact", "--namespace", namespace)["data"]

    release = ("agent-forge", str(CHART), "--namespace", namespace, *NAMES, *values_file("air-gapped"))
    release = (*release, "--set", "minio.persistence.keep=false")
    cluster.helm("install", *release)
    first = keys()
    cluster.helm("upgrade", *release, "--set", "mlflow.experimentName=other")
    assert keys() == first


def test_a_volume_that_is_to_be_kept_outlives_the_release(
    cluster: Cluster, namespace: str, untouched: set[str]
) -> None:
    release = ("agent-forge", "--namespace", namespace)
    cluster.helm("install", "agent-forge", str(CHART), *release[1:], *NAMES, *values_file("air-gapped"))
    cluster.helm("uninstall", *release, "--no-hooks")
    left = _everything(cluster, namespace) - untouched
    cluster.kubectl("delete", "pvc", "agent-forge-minio", "--namespace", namespace, "--wait=false")
    _let_go(cluster, namespace)
    assert left == {"persistentvolumeclaim/agent-forge-minio"}


def test_a_value_that_does_not_fit_changes_nothing(
    cluster: Cluster, namespace: str, untouched: set[str]
) -> None:
    arguments = (
        "install",
        "agent-forge",
        str(CHART),
        "--namespace",
        namespace,
        *NAMES,
        "--set",
        "kfp.nmespace=x",
    )
    ended = cluster.run("helm", *arguments, check=False)
    assert ended.returncode != 0 and "'nmespace' not allowed" in ended.stderr
    assert _everything(cluster, namespace) == untouched
