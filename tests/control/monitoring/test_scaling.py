"""What `scale_resources` does on Kubernetes: asked over HTTP by the real client, of a server that keeps deployments."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.errors import StoreError
from pipelines.control.monitoring.scaling import Scaled, scale
from pipelines.control.settings import ControlSettings, from_environment
from pipelines.control.store.database import Database
from tests.contract.stores.s3_servers import free_port

DEPLOYMENT = "/apis/apps/v1/namespaces/forge/deployments/agent-forge-api/scale"
AUTOSCALER = "/apis/autoscaling/v2/namespaces/forge/horizontalpodautoscalers/agent-forge-api"


class Cluster(http.server.ThreadingHTTPServer):
    """Two objects, read and patched as Kubernetes does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.objects: dict[str, dict[str, Any]] = {
            DEPLOYMENT: {"kind": "Scale", "apiVersion": "autoscaling/v1",
                         "metadata": {"name": "agent-forge-api", "resourceVersion": "7"}, "spec": {"replicas": 3}},
            AUTOSCALER: {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {"name": "a"},
                         "spec": {"minReplicas": 2, "maxReplicas": 4,
                                  "scaleTargetRef": {"kind": "Deployment", "name": "agent-forge-api"}}},
        }  # fmt: skip


class Answers(http.server.BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        found = self.server.objects.get(self.path)
        self._answer(200 if found else 404, found or {"kind": "Status", "status": "Failure"})

    def do_PATCH(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.objects[self.path]["spec"] |= given["spec"]
        self.do_GET()

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def configured(folder: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "kubeconfig").write_text(
        json.dumps(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
                "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "forge"}}],
            }
        )
    )  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(folder / "kubeconfig")
    )


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    server = Cluster()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configured(tmp_path, server.server_port, monkeypatch)
    yield server
    server.shutdown()
    server.server_close()


async def asked(target: str, bounds: str = "1-4", firing: bool = True) -> Scaled:
    settings = ControlSettings(scale_target=target, scale_bounds=bounds)
    return await scale(settings, Database("sqlite:///never-opened"), firing=firing, why="memory")


async def test_a_deployment_gets_one_replica_more_up_to_its_bound(cluster: Cluster) -> None:
    done = await asked("deployment/agent-forge-api")
    assert (done.action, done.replicas) == ("scaled", 4)
    assert cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 4
    done = await asked("deployment/agent-forge-api")
    assert done.action == "nothing" and "4 already" in done.why
    assert cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 4


async def test_an_autoscaler_begins_with_one_replica_more_never_over_its_own_bound(cluster: Cluster) -> None:
    for expected in (3, 4, 4):
        await asked("hpa/agent-forge-api", "1-9")
        assert cluster.objects[AUTOSCALER]["spec"]["minReplicas"] == expected


async def test_more_replicas_than_the_bounds_have_stay(cluster: Cluster) -> None:
    done = await asked("deployment/agent-forge-api", "1-2")
    assert done.action == "nothing" and cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 3


async def test_replicas_are_not_taken_away(cluster: Cluster) -> None:
    assert (await asked("deployment/agent-forge-api", firing=False)).action == "nothing"
    assert cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 3


async def test_what_is_not_there_is_said(cluster: Cluster) -> None:
    done = await asked("deployment/other")
    assert done.action == "nothing" and "404" in done.why


async def test_no_cluster_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    done = await asked("deployment/agent-forge-api")
    assert done.action == "nothing" and "no Kubernetes is configured" in done.why


async def test_a_cluster_that_does_not_answer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(tmp_path, free_port(), monkeypatch)
    with pytest.raises(StoreError, match="Kubernetes does not answer"):
        await asked("deployment/agent-forge-api")


@pytest.mark.parametrize(
    "target", ["job/a", "deployment/", "deployment/a/b", "deployment/../x", "A", "deployment/A"]
)
def test_a_target_that_is_none_does_not_start(target: str) -> None:
    from components.shared.runtime.errors import ConfigError

    with pytest.raises(ConfigError, match="FORGE_SCALE_TARGET"):
        from_environment({"FORGE_SCALE_TARGET": target})
