"""A release's life on a real API server: installed, upgraded, rolled back, and gone without a trace.

Hooks (the jobs) are left out: without a kubelet none would end. Their objects are in test_admission.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart import tools
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


def _run_from_the_notes(cluster: Cluster, namespace: str, command: str) -> None:
    """Run the one command of the release's notes that this pattern describes, as it stands there."""
    notes = cluster.helm("get", "notes", "agent-forge", "--namespace", namespace)
    (found,) = re.findall(rf"^ +({command})$", notes, re.MULTILINE)
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    environment["PATH"] = f"{tools.find('kubectl').parent}:{environment['PATH']}"
    subprocess.run(["bash", "-euo", "pipefail", "-c", found], env=environment, check=True)


def test_the_patch_in_the_notes_lets_argo_try_failed_pods_again(
    cluster: Cluster, namespace: str, untouched: set[str]
) -> None:
    """On the ConfigMap as Kubeflow Pipelines 2.17 has it."""
    defaults = (
        "spec:\n  templateDefaults:\n    retryStrategy:\n      limit: '2'\n      retryPolicy: OnError\n"
    )
    name = {"name": "workflow-controller-configmap", "namespace": namespace}
    data = {"executor": "imagePullPolicy: IfNotPresent\n", "workflowDefaults": defaults}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": data})
    release = ("agent-forge", str(CHART), "--namespace", namespace, *NAMES)
    cluster.helm("install", *release, "--set", f"kfp.namespace={namespace}")
    _run_from_the_notes(cluster, namespace, r"kubectl get configmap workflow.*\n.*kubectl apply -f -")
    changed = cluster.get("configmap", name["name"], "--namespace", namespace)["data"]
    cluster.kubectl("delete", "configmap", name["name"], "--namespace", namespace)
    assert changed == {**data, "workflowDefaults": defaults.replace("OnError", "Always")}


def test_the_patch_in_the_notes_points_kubeflow_pipelines_at_minio(
    cluster: Cluster, namespace: str, untouched: set[str]
) -> None:
    name = {"name": "kfp-launcher", "namespace": namespace}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"defaultPipelineRoot": ""}}
    )
    release = ("agent-forge", str(CHART), "--namespace", namespace, *NAMES, *values_file("air-gapped"))
    cluster.helm("install", *release, "--set", "minio.persistence.keep=false")
    _run_from_the_notes(cluster, namespace, "kubectl patch configmap kfp-launcher .*")
    changed = cluster.get("configmap", name["name"], "--namespace", namespace)["data"]
    cluster.kubectl("delete", "configmap", name["name"], "--namespace", namespace)
    assert changed["defaultPipelineRoot"] == "minio://mlpipeline/v2/artifacts"
    store = json.loads(changed["providers"])["minio"]["default"]
    assert store["endpoint"] == f"agent-forge-minio.{namespace}.svc.cluster.local:9000"
    assert store["credentials"]["secretRef"]["secretName"] == "mlpipeline-minio-artifact"


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
