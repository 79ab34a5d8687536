"""What a Kubeflow Pipelines server is sent: runs, and the pipelines that its pages start runs from."""

import functools
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from pipelines.kubeflow import compiled as compiling
from pipelines.kubeflow.state import store as run_store
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus
from tests.pipeline.kubeflow.kubeflow_server import RUN, run
from tests.pipeline.kubeflow.kubernetes_server import ROOT, pod

REALLY_COMPILED = compiling.compiled
ONE_PHASE = ["--from", "adas", "--to", "adas", "--artifact", "s3://b/model"]


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """Addresses are looked at where a store is made for it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@functools.cache
def compiled_once(*range_, **shape):
    """Compiled once for all tests; in a thread, as KFP looks at the whole stack at every setting of a task."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(REALLY_COMPILED, *range_, **shape).result()


@pytest.fixture
def submit(kubeflow, forge, monkeypatch):
    monkeypatch.setattr(compiling, "compiled", compiled_once)
    return lambda *arguments: forge("submit", "--host", kubeflow.host, *arguments)


def parameters(kubeflow):
    return kubeflow.bodies("/runs")[-1]["runtime_config"]["parameters"]


def test_a_run_is_submitted_with_its_parameters_and_its_page_is_printed(kubeflow, submit):
    access = ["--token", "secret", "--namespace", "team"]
    settings = ["--seed", "7", "-s", "accelerator_limit=2", "-O", "bitnet.threads=4"]
    code, text = submit(*access, *settings, "--name", "n")
    assert code == 0, text
    assert text.splitlines()[-1] == f"{kubeflow.host}/#/runs/details/{RUN}"
    assert "35 pods" in text
    method, path, _, headers, body = kubeflow.seen[-1]
    assert (method, path, headers["authorization"]) == ("POST", "/apis/v2beta1/runs", "Bearer secret")
    sent = parameters(kubeflow)
    assert (sent["seed"], sent["accelerator_limit"]) == (7, "2")
    assert json.loads(sent["bitnet_settings"])["bitnet"]["threads"] == 4
    assert [sent[f"base_model_{number}"] for number in (1, 2, 3)] == ["standard", "memory", "reasoning"]
    spec = body["pipeline_spec"]
    assert (
        spec["pipeline_spec"]["pipelineInfo"]["name"] == "agent-forge"
        and "platforms" in spec["platform_spec"]
    )
    assert kubeflow.bodies("/experiments") == [{"display_name": "agent-forge", "namespace": "team"}]


def test_the_shape_of_the_graph_follows_from_base_models_rounds_and_workers(kubeflow, submit):
    code, text = submit("-m", "standard", "-m", "s3://b/mine", "--rounds", "1", "--workers", "3")
    assert code == 0, text
    sent = parameters(kubeflow)
    assert (sent["base_model_1"], sent["base_model_2"]) == (
        "standard",
        "s3://b/mine",
    ) and "base_model_3" not in sent
    tasks = kubeflow.bodies("/runs")[-1]["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert len([name for name in tasks if name.startswith("evomerge-worker")]) == 3
    assert not [name for name in tasks if name.startswith("evomerge-select")]


def test_each_task_carries_the_digests_that_kfps_cache_has_to_know(kubeflow, submit):
    assert submit(*ONE_PHASE)[0] == 0
    dag = kubeflow.bodies("/runs")[-1]["pipeline_spec"]["pipeline_spec"]["root"]["dag"]
    inputs = dag["tasks"]["adas"]["inputs"]["parameters"]
    assert inputs["code_version"]["runtimeValue"]["constant"].startswith("0.1.0+")
    assert inputs["settings"] == {"componentInputParameter": "adas_settings"}


@pytest.mark.parametrize(("flag", "caches"), [("--cache", True), ("--no-cache", False)])
def test_the_cache_is_kfps_or_is_not_asked(kubeflow, submit, flag, caches):
    assert submit(flag, *ONE_PHASE)[0] == 0
    tasks = kubeflow.bodies("/runs")[-1]["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    found = {name: bool(task["cachingOptions"].get("enableCache")) for name, task in tasks.items()}
    assert found.pop("report") is False  # it ends the run in MLflow, which no earlier run's page does
    assert set(found.values()) == {caches}


def test_one_phase_is_submitted_with_the_address_of_its_artifact(kubeflow, submit):
    code, text = submit(
        "--from", "training", "--to", "training", "--artifact", "s3://b/model", "--cluster", "gpu"
    )
    assert code == 0, text
    assert parameters(kubeflow)["artifact_uri"] == "s3://b/model"
    assert "not looked at from here: s3://b/model" in text


def test_evomerge_takes_as_many_artifacts_as_are_given(kubeflow, submit):
    code, text = submit("--from", "evomerge", "--to", "evomerge", "-a", "s3://b/1", "-a", "s3://b/2")
    assert code == 0, text
    sent = parameters(kubeflow)
    assert (sent["artifact_uri_1"], sent["artifact_uri_2"]) == ("s3://b/1", "s3://b/2")
    assert "artifact_uri_3" not in sent


def test_waiting_ends_with_the_run_and_fails_when_it_fails(kubeflow, submit, clock):
    kubeflow.runs[RUN] = [run("RUNNING"), run("SUCCEEDED")]
    code, text = submit("--wait", *ONE_PHASE)
    assert code == 0 and text.splitlines()[-1] == "succeeded"
    kubeflow.runs[RUN] = [run("RUNNING"), run("FAILED")]
    assert submit("--wait", *ONE_PHASE)[0] == 9


def test_the_exit_codes_stand_in_the_help(forge):
    _, text = forge("submit", "--help")
    for number in ("0 ", "9 ", "75 ", "124 ", "5 "):
        assert f"\n    {number}" in text


def test_a_server_that_is_not_there_is_named(forge):
    code, text = forge("submit", "--host", "http://127.0.0.1:9", *ONE_PHASE)
    assert code == 5
    assert "http://127.0.0.1:9" in text and "forge doctor" in text


@pytest.mark.parametrize("fault", ["html", "redirect"])
def test_a_login_page_is_no_run(kubeflow, submit, fault):
    kubeflow.always = fault
    code, text = submit(*ONE_PHASE)
    assert code == 5 and "details/None" not in text and "--token" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-s", "acelerator_limit=2", *ONE_PHASE], "did you mean accelerator_limit"),
        (["--from", "adas"], "--run RUN"),
        (["--from", "adas", "--artifact", "/home/me/model"], "a pod cannot read a folder"),
        (["--from", "adas", "--artifact", "s3://b/x", "--run", "latest"], "twice"),
        (["--run", "latest"], "starts from base models"),
        (["--artifact", "s3://b/x"], "use --base-model"),
        (["--rounds", "4"], "packs its nodes away"),
    ],
)
def test_what_does_not_fit_is_found_before_anything_is_sent(kubeflow, submit, arguments, words):
    code, text = submit(*arguments)
    assert code in (2, 6), text
    assert words in text and kubeflow.seen == []


def test_an_address_with_nothing_behind_it_is_found_before_anything_is_sent(kubeflow, submit, s3_uri):
    code, text = submit("--from", "adas", "--to", "adas", "--artifact", f"{s3_uri}/nowhere")
    assert code == 6 and "there is no model at this address" in text and kubeflow.seen == []


def keep(*folders):
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "forge.json").write_text("{}")


@pytest.fixture
def unlooked(monkeypatch):
    """Any address will do."""
    monkeypatch.setattr("pipelines.kubeflow.starting.check", lambda address, say: None)


def test_what_a_phase_starts_from_is_found_by_the_runs_pods(kubeflow, kubernetes, submit, unlooked):
    kubeflow.runs[RUN] = [run("SUCCEEDED")]
    kubernetes.pods = [
        pod("evomerge-select", "Succeeded", outputs=["state"]),
        pod("evomerge", "Succeeded", outputs=["model"]),
        pod("quietstar", "Succeeded", outputs=["model"]),
    ]
    assert submit("--from", "quietstar", "--to", "quietstar", "--run", "latest")[0] == 0
    assert parameters(kubeflow)["artifact_uri"] == f"{ROOT}/evomerge/c1/model"
    assert submit("--from", "bitnet", "--to", "bitnet", "--run", RUN)[0] == 0
    assert parameters(kubeflow)["artifact_uri"] == f"{ROOT}/quietstar/c1/model"


def test_a_result_from_kfps_cache_is_found_by_whoever_took_it(kubeflow, kubernetes, submit, unlooked):
    kubeflow.runs[RUN] = [run("SUCCEEDED")]
    older = "minio://mlpipeline/v2/artifacts/agent-forge/older/evomerge/c9/model"
    kubernetes.pods = [pod("quietstar", "Succeeded", inputs={"input_model": [older]}, outputs=["model"])]
    assert submit("--from", "quietstar", "--to", "quietstar", "--run", "latest")[0] == 0
    assert parameters(kubeflow)["artifact_uri"] == older


def test_what_a_phase_starts_from_is_found_in_the_store_when_the_pods_are_gone(
    kubeflow, submit, unlooked, monkeypatch, tmp_path
):
    monkeypatch.setattr(run_store, "DEFAULT_ROOT", str(tmp_path / "store"))
    root = tmp_path / "store" / "agent-forge" / RUN
    keep(root / "cognate-trunk" / "c0" / "model")
    for number in (1, 2, 10):
        keep(root / f"cognate-variant-{number}" / "c1" / "model")
    keep(root / "evomerge-round-1-selection" / "c1" / "state", root / "evomerge" / "c1" / "model")
    (root / "evomerge" / "c2" / "model").mkdir(parents=True)  # one that never became whole
    kubeflow.runs[RUN] = [run("SUCCEEDED")]
    assert submit("--from", "evomerge", "--to", "evomerge", "--run", "latest")[0] == 0
    sent = parameters(kubeflow)
    names = [sent[f"artifact_uri_{number}"].split("/")[-3] for number in (1, 2, 3)]
    assert names == ["cognate-variant-1", "cognate-variant-2", "cognate-variant-10"]
    assert submit("--from", "quietstar", "--to", "quietstar", "--run", "latest")[0] == 0
    assert parameters(kubeflow)["artifact_uri"] == f"{root}/evomerge/c1/model"
    code, text = submit("--from", "bitnet", "--to", "bitnet", "--run", "latest")
    assert code == 6 and "quietstar has left none there" in text and "--artifact" in text


def test_what_a_phase_starts_from_is_found_in_a_local_run_that_has_a_store(kubeflow, submit, bench, unlooked):
    folder = RunFolder(bench.runs / "mine")
    folder.write(RunStatus("mine", "succeeded", 1.0, 2.0, store="s3://forge/runs"))
    made = {"model": "artifacts/bitnet/model"}
    folder.task("bitnet").write(TaskStatus("bitnet", "bitnet", "bitnet", status="cached", outputs=made))
    assert submit("--from", "training", "--to", "training", "--run", "mine")[0] == 0
    assert parameters(kubeflow)["artifact_uri"] == "s3://forge/runs/mine/artifacts/bitnet/model"
    folder.write(RunStatus("mine", "succeeded", 1.0, 2.0))
    code, text = submit("--from", "training", "--to", "training", "--run", "mine")
    assert code == 6 and "on this machine only" in text and "--store" in text


def test_the_nine_pipelines_are_uploaded_once(kubeflow, submit):
    code, text = submit("--upload")
    assert code == 0, text
    assert "9 of 9 pipelines are new" in text
    assert len(kubeflow.pipelines) == 9 and {"agent-forge", "agent-forge-bitnet"} <= set(kubeflow.pipelines)
    for name, pipeline in kubeflow.pipelines.items():
        [(version, body)] = pipeline["versions"].items()
        assert version.startswith(f"{name}-") and b"uploadfile" in body
        document = body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        assert next(yaml.safe_load_all(document))["pipelineInfo"]["name"] == name
    before = json.dumps({name: list(one["versions"]) for name, one in kubeflow.pipelines.items()})
    code, text = submit("--upload")
    assert code == 0 and "0 of 9 pipelines are new" in text and text.count("there ") == 9
    assert json.dumps({name: list(one["versions"]) for name, one in kubeflow.pipelines.items()}) == before


def test_a_changed_pipeline_is_a_new_version_of_the_same(kubeflow, submit):
    submit("--upload")
    code, text = submit("--upload", "--workers", "3")
    assert code == 0 and "2 of 9 pipelines are new" in text  # the whole, and evomerge's
    assert len(kubeflow.pipelines["agent-forge-evomerge"]["versions"]) == 2
    assert len(kubeflow.pipelines["agent-forge-adas"]["versions"]) == 1


def test_a_pipeline_is_compiled_into_the_current_folder_by_its_name(forge, bench):
    code, text = forge("compile", "--from", "adas", "--to", "adas")
    assert code == 0, text
    assert "pods" in text and "MB" in text
    assert "agent-forge-adas" in (bench.runs.parent / "agent-forge-adas.yaml").read_text()
