"""`forge status|logs|cancel|retry` of a run on a Kubeflow cluster."""

import json

import pytest

from pipelines.kubeflow.state import store as run_store
from pipelines.kubeflow.state.argo_names import fnv1a
from pipelines.phases import PHASES
from tests.pipeline.kubeflow.kubeflow_server import RUN, detail, run
from tests.pipeline.kubeflow.kubernetes_server import ended, pod
from tests.pipeline.mlflow_runs import pipeline_run


@pytest.fixture
def forge_at(kubeflow, forge):
    """The command, with --host."""
    kubeflow.runs[RUN] = [run("RUNNING", detail("quietstar", "RUNNING"))]
    return lambda *arguments: forge(*arguments, "--host", kubeflow.host)


@pytest.fixture
def in_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(run_store, "DEFAULT_ROOT", str(tmp_path / "store"))
    return tmp_path / "store" / "agent-forge" / RUN


def test_status_shows_the_eight_phases_and_the_page(kubeflow, forge_at):
    code, text = forge_at("status", "latest")
    assert code == 0, text
    assert "first · running" in text and f"{kubeflow.host}/#/runs/details/{RUN}" in text
    for phase in PHASES:
        assert phase in text
    assert "pods are not seen from here: no kubeconfig" in text


def test_the_address_of_a_page_needs_no_host(kubeflow, forge):
    kubeflow.runs[RUN] = [run("SUCCEEDED")]
    code, text = forge("status", f"{kubeflow.host}/#/runs/details/{RUN}")
    assert code == 0 and "first · succeeded" in text


def test_status_as_json_has_every_task(forge_at):
    code, text = forge_at("status", "first", "--json")
    found = json.loads(text)
    assert code == 0 and found["state"] == "running" and found["id"] == RUN
    assert [task["title"] for task in found["tasks"]][-1] == "quietstar"


def test_status_of_a_local_run_as_json_has_the_same_keys(forge_at, forge, bench):
    from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus

    folder = RunFolder(bench.runs / "mine")
    folder.write(RunStatus("mine", "succeeded", 100.0, 160.0))
    folder.task("bitnet").write(
        TaskStatus("bitnet", "bitnet", "bitnet", status="succeeded", started=100.0, finished=150.0)
    )
    local = json.loads(forge_at("status", "mine", "--json")[1])
    remote = json.loads(forge_at("status", "first", "--json")[1])
    assert local["name"] == "mine" and set(local) == set(remote)
    assert set(local["tasks"][0]) == set(remote["tasks"][0])


def test_logs_come_from_the_pod_while_it_is_there(kubernetes, forge_at):
    kubernetes.pods = [pod("quietstar", "Running", attempt=0, state={"running": {}})]
    kubernetes.logs[kubernetes.pods[0]["metadata"]["name"]] = "one\ntwo\nthree\n"
    code, text = forge_at("logs", "latest", "-n", "2")
    assert code == 0 and text == "two\nthree\n"


def test_logs_come_by_way_of_kfp_where_the_pods_are_forbidden(kubernetes, kubeflow, forge_at, monkeypatch):
    kubernetes.pods = [pod("quietstar", "Running", attempt=0, state={"running": {}})]
    kubeflow.texts["/k8s/pod/logs"] = "from the archive\n"
    code, text = forge_at("logs", "latest", "--task", "quietstar")
    assert code == 0 and text == "from the archive\n"
    asked = next(query for _, path, query, *_ in kubeflow.seen if path == "/k8s/pod/logs")
    assert asked["podname"] == kubernetes.pods[0]["metadata"]["name"] and asked["runid"] == RUN


@pytest.mark.parametrize("path", ["/k8s/pod/logs", "the API server's own"])
def test_without_a_kubeconfig_the_pods_name_follows_from_argos_ids(kubeflow, forge_at, path):
    node = "agent-forge-x7k2p(0).root(0).quietstar(0).executor"
    children = [{"pod_name": f"agent-forge-x7k2p-{fnv1a(f'{node}({attempt})')}"} for attempt in (0, 1)]
    details = [detail("quietstar", "RUNNING"), {**detail("executor", "RUNNING"), "child_tasks": children}]
    kubeflow.runs[RUN] = [run("RUNNING", *details)]
    name = f"agent-forge-x7k2p-system-container-impl-{fnv1a(f'{node}(1)')}"
    if path != "/k8s/pod/logs":
        path = f"/apis/v1alpha1/runs/{RUN}/nodes/{name}/log"
    kubeflow.texts[path] = "second attempt\n"
    code, text = forge_at("logs", "latest", "--task", "quietstar")
    assert code == 0 and text == "second attempt\n"
    assert name in next(query.get("podname", at) for _, at, query, *_ in kubeflow.seen if at == path)


def test_logs_come_from_the_store_when_the_pods_are_gone(kubeflow, forge_at, in_folder):
    for number, text in ((0, "first attempt\n"), (1, "second attempt\nlast line\n")):
        file = in_folder / "quietstar" / "c1" / f"executor-logs-{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    kubeflow.runs[RUN] = [run("FAILED", detail("quietstar", "FAILED"))]
    code, text = forge_at("logs", "latest")
    assert code == 0 and text == "second attempt\nlast line\n"


def test_logs_that_are_nowhere_say_where_was_looked(forge_at):
    code, text = forge_at("logs", "latest")
    assert code == 6
    assert "no kubeconfig" in text and "KUBECONFIG" in text and "AWS_ENDPOINT_URL" in text


def test_logs_of_an_unknown_task_name_those_that_are_there(forge_at):
    code, text = forge_at("logs", "latest", "--task", "bitnett")
    assert code == 6 and "cognate-variant-1" in text


def test_logs_of_a_local_run_are_its_files(forge, bench):
    from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus

    folder = RunFolder(bench.runs / "mine")
    folder.write(RunStatus("mine", "failed", 100.0))
    for name, state in (("bitnet", "succeeded"), ("training", "failed")):
        folder.task(name).write(TaskStatus(name, name, name, status=state, started=100.0))
        folder.task(name).log.write_text(f"{name} one\n{name} two\n")
    assert forge("logs", "mine") == (0, "training one\ntraining two\n")
    assert forge("logs", "mine", "--task", "bitnet", "-n", "1") == (0, "bitnet two\n")
    code, text = forge("logs", "mine", "--task", "nothing")
    assert code == 6 and "bitnet, training" in text


def test_cancel_terminates_a_run_that_goes_on_and_no_other(kubeflow, forge_at):
    assert forge_at("cancel", RUN)[0] == 0
    assert kubeflow.calls == [":terminate"]
    kubeflow.runs[RUN] = [run("SUCCEEDED")]
    code, text = forge_at("cancel", RUN)
    assert code == 6 and "has ended already" in text and kubeflow.calls == [":terminate"]


def test_cancel_ends_the_run_in_mlflow_too(kubeflow, forge_at, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client, made = pipeline_run(uri, RUN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    code, text = forge_at("cancel", RUN)
    assert code == 0 and "MLflow was not told" not in text, text
    assert client.get_run(made).info.status == "KILLED"


def test_retry_starts_at_the_task_that_failed(kubeflow, forge_at):
    kubeflow.runs[RUN] = [run("FAILED", detail("quietstar", "FAILED"))]
    code, text = forge_at("retry", "latest")
    assert code == 0 and "goes on at quietstar" in text and kubeflow.calls == [":retry"]
    kubeflow.runs[RUN] = [run("RUNNING")]
    code, text = forge_at("retry", "latest")
    assert code == 6 and kubeflow.calls == [":retry"]


def test_without_a_host_a_cancel_says_how_to_name_one(kubeflow, forge):
    code, text = forge("cancel", RUN)
    assert code == 2 and "KFP_HOST" in text


def test_a_pod_that_was_killed_and_came_back_is_shown_with_its_attempt(kubernetes, forge_at):
    kubernetes.pods = [
        pod("quietstar", "Failed", attempt=0, state=ended(143)),
        pod("quietstar", "Running", attempt=1, state={"running": {"startedAt": "2026-08-01T10:00:00Z"}}),
    ]
    code, text = forge_at("status", "latest", "--json")
    task = json.loads(text)["tasks"][-1]
    assert (code, task["state"], task["attempts"], task["why"]) == (0, "running", 2, "")
