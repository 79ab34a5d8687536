"""`forge doctor` before a cluster: what is not as a run needs it is named, with the command that mends it."""

import json
import shlex

import pytest
import yaml

from pipelines.doctor.cluster import examine, patch, policy_of
from pipelines.kubeflow.http import Access

STOCK = """spec:
  ttlStrategy:
    secondsAfterCompletion: 3600
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""
"""What KFP 2.17's own manifests set."""


@pytest.fixture
def findings(kubeflow):
    """The findings, by what they are about."""
    return lambda **access: {one.what: one for one in examine(Access(kubeflow.host, **access))}


@pytest.fixture
def cluster(kubernetes):
    kubernetes.nodes = [{"metadata": {"name": "a"}, "status": {"allocatable": {"nvidia.com/gpu": "2"}}}]
    kubernetes.configmaps["agent-forge"] = {
        "MLFLOW_TRACKING_URI": "http://m", "AWS_ENDPOINT_URL": "http://s", "AWS_REGION": "x"
    }  # fmt: skip
    kubernetes.secrets["mlpipeline-minio-artifact"] = {"accesskey": "eA==", "secretkey": "eA=="}
    kubernetes.configmaps["workflow-controller-configmap"] = {"workflowDefaults": "spec: {}"}
    return kubernetes


def test_a_cluster_in_which_all_is_there_is_ok(findings, cluster):
    found = findings()
    assert {one.verdict for one in found.values()} == {"ok"}
    assert list(found) == ["Kubeflow", "Kubernetes", "settings", "keys", "retries"]
    assert "2.17.0" in found["Kubeflow"].found and "1 nodes, 2 allocatable GPUs" in found["Kubernetes"].found


@pytest.mark.parametrize("fault", ["html", "redirect", 401])
def test_a_login_page_is_no_api(kubeflow, findings, fault):
    kubeflow.always = fault
    found = findings()["Kubeflow"]
    assert found.verdict == "fail" and "--token" in found.fix


def test_an_api_that_lets_anybody_see_its_health_but_not_its_runs_fails(kubeflow, findings):
    kubeflow.faults = [None, 403]
    assert findings()["Kubeflow"].verdict == "fail"


def test_a_server_that_is_away_is_told_how_to_reach(kubeflow, findings):
    kubeflow.always = "drop"
    found = findings()["Kubeflow"]
    assert found.verdict == "fail" and "port-forward" in found.fix


def test_what_kfp_makes_of_retries_is_said_with_the_patch(findings, cluster):
    cluster.configmaps["workflow-controller-configmap"] = {"workflowDefaults": STOCK, "executor": "x: 1"}
    found = findings()["retries"]
    assert found.verdict == "warn" and "OnError" in found.found
    command = shlex.split(found.fix.partition("\n")[2])
    assert command[:6] == ["kubectl", "patch", "configmap", "workflow-controller-configmap", "-n", "kubeflow"]
    changed = yaml.safe_load(json.loads(command[-1])["data"]["workflowDefaults"])
    before = yaml.safe_load(STOCK)
    assert changed["spec"]["templateDefaults"]["retryStrategy"].pop("retryPolicy") == "Always"
    assert before["spec"]["templateDefaults"]["retryStrategy"].pop("retryPolicy") == "OnError"
    assert changed == before


@pytest.mark.parametrize(
    ("data", "policy"),
    [
        ({}, ""),
        ({"workflowDefaults": STOCK}, "OnError"),
        ({"workflowDefaults": "spec: {retryStrategy: {retryPolicy: OnFailure}}"}, "OnFailure"),
        (
            {
                "config": "workflowDefaults: {spec: {templateDefaults: {retryStrategy: {retryPolicy: Always}}}}"
            },
            "Always",
        ),
    ],
)
def test_the_policy_is_found_wherever_argo_reads_it(data, policy):
    assert policy_of(data)[0] == policy


def test_the_patch_of_a_one_text_config_keeps_the_rest():
    text = yaml.safe_dump({"parallelism": 9, "workflowDefaults": yaml.safe_load(STOCK)})
    command = shlex.split(patch({"config": text}, "argo"))
    changed = yaml.safe_load(json.loads(command[-1])["data"]["config"])
    assert changed["parallelism"] == 9
    assert changed["workflowDefaults"]["spec"]["templateDefaults"]["retryStrategy"]["retryPolicy"] == "Always"


def test_missing_settings_and_keys_are_named(findings, cluster):
    del (
        cluster.configmaps["agent-forge"]["AWS_REGION"],
        cluster.secrets["mlpipeline-minio-artifact"]["secretkey"],
    )
    found = findings()
    assert (found["settings"].verdict, found["keys"].verdict) == ("warn", "warn")
    assert "lacks AWS_REGION" in found["settings"].found and "lacks secretkey" in found["keys"].found
    cluster.configmaps.clear()
    cluster.secrets.clear()
    found = findings()
    assert "is not there" in found["settings"].found and "is not there" in found["keys"].found


def test_a_cluster_without_gpus_is_told_which_settings_fit(findings, cluster):
    cluster.nodes = [{"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": "2"}}}]
    found = findings()["Kubernetes"]
    assert found.verdict == "warn" and "--cluster kind" in found.fix


def test_what_may_not_be_read_is_a_warning(findings, cluster):
    cluster.status = 403
    assert findings()["Kubernetes"].verdict == "warn"
