"""Jobs of a training operator, against an API of Kubernetes on this machine: made, watched, and ended whatever happens."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from components.shared.runtime import stopping
from components.shared.runtime.errors import ConfigError, Interrupted, PhaseFailed
from components.shared.runtime.ranks import training_job
from components.shared.runtime.ranks.training_job import OPERATOR, TRAINER, Group, executor_input, job_of
from components.shared.runtime.request.inputs import Request, from_kfp

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "run-7-bitnet", "namespace": "kubeflow", "uid": "u-1"},
    "spec": {
        "serviceAccountName": "pipeline-runner",
        "containers": [
            {"name": "wait", "image": "argo"},
            {
                "name": "main",
                "image": "forge/bitnet:1",
                "env": [
                    {"name": "AWS_ENDPOINT_URL", "value": "http://s3"},
                    {"name": "KFP_POD_NAME", "value": "x"},
                ],
                "resources": {"limits": {"nvidia.com/gpu": "8"}},
            },
        ],
    },
}
CONDITION = {"trainjobs": {"complete": "Complete"}, "pytorchjobs": {"complete": "Succeeded"}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        if self.path == "/apis/" or self.path == "/apis":
            groups = [
                {
                    "name": name,
                    "versions": [{"groupVersion": f"{name}/{v}", "version": v}],
                    "preferredVersion": None,
                }
                for name, v, _ in server.kinds
            ]
            return self.answer({"kind": "APIGroupList", "groups": groups})
        if self.path.endswith("/log?tailLines=40"):
            return self.answer("boom", plain=True)
        if "labelSelector" in self.path:
            items = [{"metadata": {"name": "ranks-1"}}] if "jobset" in self.path else []
            return self.answer({"kind": "PodList", "apiVersion": "v1", "items": items})
        if found := re.search(r"/(trainjobs|pytorchjobs)/", self.path):
            state = server.states.pop(0) if len(server.states) > 1 else server.states[0]
            kind = CONDITION[found[1]].get(state, "Failed" if state == "failed" else "")
            conditions = [{"type": kind, "status": "True"}] if kind else []
            return self.answer({"status": {"conditions": conditions}})
        return self.answer(POD)

    def do_POST(self):
        self.server.made.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(self.server.made[-1])

    def do_DELETE(self):
        self.server.deleted.append(self.path.split("?")[0].rsplit("/", 1)[1])
        self.answer({})

    def answer(self, content, plain=False):
        body = content.encode() if plain else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain" if plain else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def api(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.kinds, server.states, server.made, server.deleted = [TRAINER], ["", "complete"], [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setattr(
        "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config")
    )
    monkeypatch.setenv("KFP_POD_NAME", "run-7-bitnet")
    published = tmp_path / "published"
    published.mkdir()
    (published / "forge.json").write_text("{}")
    monkeypatch.setattr(training_job.local_copy, "download", lambda address, folder: published)
    yield server
    server.shutdown()
    server.server_close()


def request(tmp_path, root="s3://bucket/run/checkpoints"):
    return Request(
        {"input_model": ["/minio/bucket/run/model"]},
        str(tmp_path / "out"),
        settings="{}",
        seed=3,
        checkpoint_root=root,
        parameters={"variant": "memory"},
    )


def run(tmp_path, launcher="trainjob", said=None, **more):
    said = [] if said is None else said
    training_job.run("bitnet", request(tmp_path, **more), Group(2, 8, launcher), said.append, tick=0.01)
    return said


def test_a_train_job_has_this_pods_image_environment_and_resources(api, tmp_path):
    said = run(tmp_path)
    [job] = api.made
    trainer = job["spec"]["trainer"]
    assert (job["kind"], job["spec"]["runtimeRef"]) == ("TrainJob", {"name": "torch-distributed"})
    assert (trainer["image"], trainer["numNodes"], trainer["numProcPerNode"]) == ("forge/bitnet:1", 2, 8)
    assert trainer["resourcesPerNode"] == {"limits": {"nvidia.com/gpu": "8"}}
    assert {each["name"] for each in trainer["env"]} == {"AWS_ENDPOINT_URL", "FORGE_RETRIES"}
    assert trainer["args"][:2] == ["--module", "components.bitnet"]
    assert job["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert api.deleted == [job["metadata"]["name"]] and any("complete" in text for text in said)
    assert (tmp_path / "out" / "forge.json").exists()


def test_where_only_the_old_operator_is_a_pytorch_job_runs_the_pods(api, tmp_path):
    api.kinds = [OPERATOR]
    said = run(tmp_path)
    [job] = api.made
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert (replicas["Master"]["replicas"], replicas["Worker"]["replicas"]) == (1, 1)
    arguments = replicas["Worker"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[:6] == ["--nnodes", "2", "--nproc-per-node", "8", "--node-rank", "$(RANK)"]
    assert any("PyTorchJob" in text for text in said)


def test_without_an_operator_it_is_refused_by_name(api, tmp_path):
    api.kinds = []
    with pytest.raises(ConfigError, match=r"no trainer\.kubeflow\.org"):
        run(tmp_path)
    assert not api.made


def test_a_job_that_fails_is_deleted_and_its_log_is_told(api, tmp_path):
    api.states, said = ["failed"], []
    with pytest.raises(PhaseFailed, match="failed"):
        run(tmp_path, said=said)
    assert api.deleted and any("boom" in text for text in said)


def test_a_stop_deletes_the_job_so_that_its_pods_write_a_checkpoint(api, tmp_path):
    api.states = [""]
    stopping.request_stop()
    try:
        with pytest.raises(Interrupted):
            run(tmp_path)
    finally:
        stopping.clear_stop_request()
    assert api.deleted


def test_checkpoints_that_pods_do_not_share_are_refused(api, tmp_path):
    with pytest.raises(ConfigError, match="a store that all of them reach"):
        run(tmp_path, root=str(tmp_path))


def test_the_jobs_pods_are_asked_the_same_with_addresses_in_the_store(tmp_path):
    asked = from_kfp(executor_input(request(tmp_path), "s3://bucket/run/jobs/x"))
    assert asked.inputs == {"input_model": ["minio://bucket/run/model"]}
    assert (asked.target, asked.seed, asked.parameters) == (
        "s3://bucket/run/jobs/x",
        3,
        {"variant": "memory"},
    )
    assert asked.checkpoint_root == "s3://bucket/run/checkpoints"


def test_a_job_of_all_gpus_asks_torchrun_to_count_them():
    job = job_of(OPERATOR, "bitnet", POD, [], Group(3, "auto", "pytorchjob"))
    container = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]
    assert container["args"][3] == "gpu"
