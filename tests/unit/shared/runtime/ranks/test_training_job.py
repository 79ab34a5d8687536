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
from components.shared.runtime.ranks.job_objects import OPERATOR, TRAINER, Group, pytorch_job, train_job
from components.shared.runtime.ranks.training_job import executor_input
from components.shared.runtime.request.inputs import Request, from_kfp

TAINTED = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
SHM = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
AS_USER = {"runAsUser": 65532, "runAsNonRoot": True}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "run-7-bitnet", "namespace": "kubeflow", "uid": "u-1"},
    "spec": {
        "serviceAccountName": "pipeline-runner",
        "tolerations": TAINTED,
        "nodeSelector": {"pool": "gpu"},
        "imagePullSecrets": [{"name": "registry"}],
        "securityContext": {"fsGroup": 65532},
        "volumes": [SHM, {"name": "kfp-launcher", "emptyDir": {}}],
        "containers": [
            {"name": "wait", "image": "argo"},
            {
                "name": "main",
                "image": "forge/bitnet:1",
                "imagePullPolicy": "Always",
                "env": [
                    {"name": "AWS_ENDPOINT_URL", "value": "http://s3"},
                    {"name": "KFP_POD_NAME", "value": "x"},
                    {"name": "FORGE_RETRIES", "value": "2"},
                ],
                "resources": {"limits": {"nvidia.com/gpu": "8"}},
                "securityContext": AS_USER,
                "volumeMounts": [
                    {"name": "shm", "mountPath": "/dev/shm"},
                    {"name": "kfp-launcher", "mountPath": "/kfp-launcher"},
                ],
            },
        ],
    },
}


def fields(**properties):
    return {"type": "object", "properties": properties}


def many(item):
    return {"type": "array", "items": item}


def pods(container, **more):
    """The schema of what a job may say of its pods."""
    known = {
        name: {} for name in ("tolerations", "nodeSelector", "affinity", "volumes", "serviceAccountName")
    }
    return fields(**known, **more, containers=many(fields(name={}, volumeMounts={}, **container)))


SPEC_2_1 = fields(
    podTemplateOverrides=many(fields(targetJobs={}, spec=pods({}, imagePullSecrets={}))),
)
"""Of a TrainJob's spec, as Kubeflow Trainer 2.1 has it; and 2.3."""
ALL = pods({"securityContext": {}}, imagePullSecrets={}, securityContext={}, terminationGracePeriodSeconds={})
JOBS = many(fields(name={}, template=fields(spec=fields(template=fields(spec=ALL)))))
SPEC_2_3 = fields(
    runtimePatches=many(
        fields(manager={}, trainingRuntimeSpec=fields(template=fields(spec=fields(replicatedJobs=JOBS))))
    ),
)
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
        if self.refused():
            return None
        if self.path.startswith("/openapi/v3/"):
            schema = fields(spec=server.schema) | {"x-kubernetes-group-version-kind": [{"kind": "TrainJob"}]}
            return self.answer({"components": {"schemas": {"TrainJob": schema}}})
        if self.path.endswith("/log?tailLines=40"):
            return self.answer("boom", plain=True)
        if "labelSelector" in self.path:
            items = [{"metadata": {"name": "ranks-1"}, "status": server.pod}] if "jobset" in self.path else []
            return self.answer({"kind": "PodList", "apiVersion": "v1", "items": items})
        if found := re.search(r"/(trainjobs|pytorchjobs)/(.*)", self.path):
            return self.job(*found.groups())
        return self.answer(POD)

    def job(self, plural, name):
        server = self.server
        if name in server.ending:
            server.ending[name] -= 1
            if server.ending[name] >= 0:
                return self.answer({"metadata": {"deletionTimestamp": "now"}})
        if name in server.ending or name not in server.there:
            return self.answer({"message": "not found"}, status=404)
        state = server.states.pop(0) if len(server.states) > 1 else server.states[0]
        kind = CONDITION[plural].get(state, "Failed" if state == "failed" else "")
        conditions = [{"type": kind, "status": "True"}] if kind else []
        return self.answer({"metadata": {}, "status": {"conditions": conditions}})

    def refused(self):
        """Whether this request gets one of the faults that its path is to have; 0: no answer at all."""
        for pattern, statuses in self.server.faults.items():
            if statuses and re.search(pattern, f"{self.command} {self.path}"):
                if status := statuses.pop(0):
                    self.answer({"message": "etcdserver: leader changed"}, status=status)
                return True
        return False

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refused():
            return
        name = body["metadata"]["name"]
        if self.server.ending.get(name, -1) >= 0:
            return self.answer({"message": "object is being deleted"}, status=409)
        self.server.made.append(body)
        self.server.there.add(name)
        self.server.ending.pop(name, None)
        self.answer(body)

    def do_DELETE(self):
        name = self.path.split("?")[0].rsplit("/", 1)[1]
        if self.refused():
            return
        self.server.deleted.append(name)
        self.server.ending[name] = self.server.looks_until_gone
        self.answer({})

    def answer(self, content, plain=False, status=200):
        body = content.encode() if plain else json.dumps(content).encode()
        self.send_response(status)
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
    server.schema, server.faults, server.pod = SPEC_2_3, {}, {"phase": "Running"}
    server.there, server.ending, server.looks_until_gone = set(), {}, 0
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
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


def test_the_pods_of_a_train_job_are_placed_and_secured_as_this_pod_is(api, tmp_path):
    said = run(tmp_path)
    [patch] = api.made[0]["spec"]["runtimePatches"]
    [job] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert (patch["manager"], job["name"]) == ("agent-forge/phase", "node")
    assert job["template"]["spec"]["template"]["spec"] == {
        **{key: POD["spec"][key] for key in ("tolerations", "nodeSelector", "imagePullSecrets")},
        **{key: POD["spec"][key] for key in ("securityContext", "serviceAccountName")},
        "volumes": [SHM],
        "terminationGracePeriodSeconds": 600,
        "containers": [
            {
                "name": "node",
                "securityContext": AS_USER,
                "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
            }
        ],
    }
    assert not any("leaves to its runtime" in text for text in said)


def test_an_older_kubeflow_trainer_gets_what_its_schema_has_and_the_rest_is_said(api, tmp_path):
    api.schema = SPEC_2_1
    said = run(tmp_path)
    [override] = api.made[0]["spec"]["podTemplateOverrides"]
    assert override["targetJobs"] == [{"name": "node"}]
    assert override["spec"]["tolerations"] == TAINTED and override["spec"]["volumes"] == [SHM]
    assert "securityContext" not in override["spec"] and "runtimePatches" not in api.made[0]["spec"]
    assert any("containers.securityContext, spec.securityContext" in text for text in said)


def test_where_only_the_old_operator_is_a_pytorch_job_runs_the_pods(api, tmp_path):
    api.kinds = [OPERATOR]
    said = run(tmp_path)
    [job] = api.made
    replicas = job["spec"]["pytorchReplicaSpecs"]
    assert (replicas["Master"]["replicas"], replicas["Worker"]["replicas"]) == (1, 1)
    arguments = replicas["Worker"]["template"]["spec"]["containers"][0]["args"]
    assert arguments[:6] == ["--nnodes", "2", "--nproc-per-node", "8", "--node-rank", "$(RANK)"]
    spec = replicas["Worker"]["template"]["spec"]
    [container] = spec["containers"]
    assert (spec["tolerations"], spec["nodeSelector"]) == (TAINTED, {"pool": "gpu"})
    assert (spec["imagePullSecrets"], spec["volumes"]) == ([{"name": "registry"}], [SHM])
    assert (spec["securityContext"], container["securityContext"]) == ({"fsGroup": 65532}, AS_USER)
    assert container["volumeMounts"] == [{"name": "shm", "mountPath": "/dev/shm"}]
    assert container["imagePullPolicy"] == "Always"
    assert {"name": "FORGE_RETRIES", "value": "2"} not in container["env"]
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


def test_a_second_attempt_waits_until_the_job_of_the_first_is_gone(api, tmp_path):
    api.states, api.looks_until_gone = ["failed"], 3
    with pytest.raises(PhaseFailed) as caught:
        run(tmp_path)
    assert caught.value.transient
    api.states = ["complete"]
    run(tmp_path)
    first, second = api.made
    assert first["metadata"]["name"] == second["metadata"]["name"]
    assert len(api.deleted) == 2 and (tmp_path / "out" / "forge.json").exists()


def test_an_api_that_is_restarted_ends_no_training(api, tmp_path):
    api.faults = {
        **{r"GET .*/pods/run-7": [503], r"GET /openapi": [500], r"POST .*trainjobs": [500, 504]},
        **{r"GET .*/trainjobs/": [500, *[0] * 5, 502, 429], r"GET .*labelSelector": [503], r"DELETE": [500]},
    }
    run(tmp_path)
    assert len(api.made) == 1 and len(api.deleted) == 1 and not any(api.faults.values())


def test_what_the_api_refuses_is_said_with_what_allows_it(api, tmp_path):
    api.faults = {r"POST .*trainjobs": [403]}
    with pytest.raises(PhaseFailed, match="does not create trainjobs") as caught:
        run(tmp_path)
    assert "pipeline.trainJobs" in str(caught.value) and not caught.value.transient


def test_a_pod_without_a_log_does_not_hide_why_the_job_failed(api, tmp_path):
    api.states, api.faults, said = ["failed"], {r"/log": [400]}, []
    with pytest.raises(PhaseFailed, match=r"the job .* failed"):
        run(tmp_path, said=said)
    assert any("does not read the log of ranks-1" in text for text in said)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (
            {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes: untolerated taint",
                    }
                ],
            },
            "Unschedulable: 0/3 nodes: untolerated taint",
        ),
        (
            {
                "phase": "Pending",
                "containerStatuses": [
                    {
                        **{"name": "node", "image": "x", "imageID": "", "ready": False, "restartCount": 0},
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
                    }
                ],
            },
            "ImagePullBackOff: not found",
        ),
    ],
)
def test_a_pod_that_does_not_start_is_said_once_with_its_reason(api, tmp_path, status, says):
    api.states, api.pod = ["", "", "", "complete"], status
    said = run(tmp_path)
    assert said.count(f"ranks-1 does not start: {says}") == 1


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


def test_a_job_of_all_gpus_leaves_their_number_to_torchrun():
    every = Group(3, "auto", "pytorchjob")
    job = pytorch_job("bitnet", POD, [], every)
    container = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]
    assert container["args"][3] == "gpu"
    assert "numProcPerNode" not in train_job("bitnet", POD, [], every, SPEC_2_3)[0]["spec"]["trainer"]


def test_names_of_the_jobs_pods_fit_into_those_of_a_host():
    pod = {**POD, "metadata": {**POD["metadata"], "name": "7-" + "x" * 60}}
    name = pytorch_job("compression", pod, [], Group(2, 8, "pytorchjob"))["metadata"]["name"]
    assert name[0].isalpha() and len(f"{name}-node-0-0-abcde") <= 63
