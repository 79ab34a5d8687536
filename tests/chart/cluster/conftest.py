"""The Kubernetes API of these tests, and namespaces in it that enforce `restricted`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.chart.cluster import control_plane
from tests.chart.cluster.control_plane import Cluster

ENFORCED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, helm: object, kubectl: object) -> Iterator[Cluster]:
    """A real API server, and a scheduler where there is one."""
    if reason := control_plane.missing():
        pytest.skip(reason)
    with control_plane.cluster(tmp_path_factory.mktemp("control-plane")) as running:
        yield running


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace whose pods have to be restricted, with the service account of the pipeline's pods."""
    name = f"forge-{uuid.uuid4().hex[:8]}"
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": ENFORCED}},
        *(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": name}}
            for account in ("default", "pipeline-runner")
        ),
    )
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")
