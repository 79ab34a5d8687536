"""MLflow gets everything where it works, and is in nobody's way where it does not."""

from __future__ import annotations

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.request.inputs import Request
from components.shared.runtime.tracking import mlflow_tracker
from components.shared.runtime.tracking.mlflow_lineage import DataSet
from components.shared.runtime.tracking.mlflow_log import Destination
from components.shared.runtime.tracking.mlflow_tracker import Tracker, destination, fail_pipeline, flatten

WRITER = """
import sys
from components.shared.runtime.tracking.mlflow_log import Destination
from components.shared.runtime.tracking.mlflow_tracker import Tracker
tracker = Tracker(Destination(uri=sys.argv[1], name="other", pipeline_run="demo", identity="two"), patience=600)
tracker.metrics({"loss": 2.0})
tracker.close()
print(tracker.broken)
"""


@pytest.fixture(scope="session")
def raced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that two processes have created at the same time, each with a phase of the same pipeline run."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    other = subprocess.Popen(
        [sys.executable, "-c", WRITER, f"sqlite:///{path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    place = Destination(f"sqlite:///{path}", "one", pipeline_run="demo", identity="one")
    tracker = Tracker(place, patience=600)  # however busy the machine
    tracker.metrics({"loss": 1.0})
    tracker.close()
    out, err = other.communicate(timeout=900)
    assert tracker.broken == "" and out.strip() == "" and other.returncode == 0, (tracker.broken, out, err)
    return path


@pytest.fixture
def uri(raced: Path, tmp_path: Path) -> str:
    """A database of one's own."""
    shutil.copyfile(raced, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "FORGE_PIPELINE_RUN"):
        monkeypatch.delenv(name, raising=False)


def runs(uri: str) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_name: run for run in client.search_runs(ids)}


def in_pod(run: str) -> Request:
    """A request as a cluster makes it."""
    uri = f"minio://mlpipeline/v2/artifacts/agent-forge/{run}/bitnet/0/model"
    return Request({}, "/minio/x", output_file=Path("f"), uri=uri, pipeline_run=run)


def test_two_processes_that_create_the_database_do_not_collide(raced: Path) -> None:
    found = runs(f"sqlite:///{raced}")
    assert found["one"].data.metrics == {"loss": 1.0} and found["other"].data.metrics == {"loss": 2.0}
    assert sorted(found) == ["demo", "one", "other"]  # and they share one parent
    for name in ("one", "other"):
        assert found[name].data.tags["mlflow.parentRunId"] == found["demo"].info.run_id
        assert found[name].info.status == "FINISHED"


def test_parameters_curves_and_lineage_arrive(uri: str, tmp_path: Path) -> None:
    tracker = Tracker(Destination(uri, "bitnet", identity="three"), file=tmp_path / "metrics.jsonl")
    tracker.params({"rate": 0.1, "stages": {"first": {"steps": 3}}})
    tracker.tags({"forge.output": "abc"})
    for step in range(2500):  # more than MLflow takes in one request
        tracker.metrics({"loss": 1 / (step + 1)}, step=step)
    with tracker.child("evaluation") as child:
        child.metrics({"accuracy": 0.5})
    with pytest.raises(RuntimeError), tracker.child("doomed") as child:
        raise RuntimeError
    tracker.close()
    found = runs(uri)
    run = found["bitnet"]
    assert run.data.params == {"rate": "0.1", "stages.first.steps": "3"}
    assert run.data.tags["forge.output"] == "abc" and run.data.metrics["loss"] == 1 / 2500
    count = sqlite3.connect(uri.removeprefix("sqlite:///")).execute(
        "select count(*) from metrics where run_uuid = ?", (run.info.run_id,)
    )
    assert count.fetchone() == (2500,)
    assert found["evaluation"].data.tags["mlflow.parentRunId"] == run.info.run_id
    assert found["evaluation"].info.status == "FINISHED" and found["doomed"].info.status == "FAILED"
    assert not (tmp_path / "metrics.jsonl").exists()  # all of it is in MLflow


def test_a_restarted_phase_goes_on_in_its_own_run(uri: str) -> None:
    for status, loss in (("KILLED", 2.0), ("FINISHED", 1.0)):
        tracker = Tracker(Destination(uri, "resumed", identity="four"))
        tracker.metrics({"loss": loss})
        tracker.inputs([DataSet("bitnet", "cd" * 32, "runs/bitnet", "model")])
        tracker.made("bitnet", "ab" * 32, {})
        tracker.close(status)
        assert not tracker.broken  # what is said once more is taken as it was
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    run = runs(uri)["resumed"]
    assert run.info.status == "FINISHED"
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "loss")] == [2.0, 1.0]
    assert len(run.outputs.model_outputs) == len(run.inputs.dataset_inputs) == 1


def test_the_run_that_the_platform_gives_is_the_parent(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = runs(uri)["one"].info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    place = destination(in_pod("ignored"), "phase", "five")
    assert place is not None
    Tracker(place).close()
    found = runs(uri)
    assert found["phase"].data.tags["mlflow.parentRunId"] == parent and "ignored" not in found


def test_a_run_names_the_model_that_it_goes_on_from_by_its_digest(uri: str) -> None:
    from mlflow.tracking import MlflowClient

    def tracked(name: str) -> Tracker:
        return Tracker(Destination(uri, name, pipeline_run="demo", identity=name), patience=600)

    digest = "ab" * 32
    for name in ("cognate", "again"):  # the same content, made twice, is one model
        maker = tracked(name)
        maker.made("cognate", digest, {"forge.bytes": "12"})
        maker.close()
        assert maker.broken == ""
    reader = tracked("bitnet")
    reader.inputs([DataSet("input_model: cognate", digest, "runs/a/model", "model"),
                   DataSet("corpus", "cd" * 32, "s3://corpus", "training")])  # fmt: skip
    reader.close()
    assert reader.broken == ""
    client = MlflowClient(uri)
    experiment = client.get_run(runs(uri)["cognate"].info.run_id).info.experiment_id
    [model] = client.search_logged_models([experiment])
    run = client.get_run(runs(uri)["bitnet"].info.run_id)
    assert model.tags["forge.digest"] == digest and model.tags["forge.bytes"] == "12"
    assert [each.model_id for each in run.inputs.model_inputs] == [model.model_id]
    assert {each.dataset.name: each.dataset.digest for each in run.inputs.dataset_inputs} == {
        "input_model: cognate": digest[:36], "corpus": "cd" * 18,
    }  # fmt: skip


def test_the_final_agent_is_registered_with_its_files(uri: str, tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "config.json").write_text("{}")
    for identity in ("six", "seven"):
        tracker = Tracker(Destination(uri, identity, identity=identity))
        tracker.register(tmp_path / "agent", "forged")
        tracker.close()
        assert tracker.broken == ""
    from mlflow.tracking import MlflowClient

    versions = MlflowClient(uri).search_model_versions("name='forged'")
    assert sorted(int(version.version) for version in versions) == [1, 2]
    newest = next(version for version in versions if int(version.version) == 2)
    assert newest.run_id == runs(uri)["seven"].info.run_id
    assert (Path(newest.source.removeprefix("file://")) / "config.json").read_text() == "{}"


@pytest.fixture
def failing_server() -> Iterator[str]:
    class Fails(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Fails)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def silent_server() -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["failing_server", "silent_server", "http://127.0.0.1:9", "no such scheme"])
def test_a_server_that_does_not_work_costs_seconds_and_no_metric(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_tracker, "PATIENCE", 1.0)
    monkeypatch.setattr(mlflow_tracker, "FLUSH_SECONDS", 0.05)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = request.getfixturevalue(kind) if kind.endswith("_server") else kind
    said: list[str] = []
    file = tmp_path / "metrics.jsonl"
    tracker = Tracker(Destination(address, "toy", identity="x"), file=file, say=said.append)
    began = time.monotonic()
    tracker.params({"rate": 0.1})
    for step in range(100):
        tracker.metrics({"loss": step}, step=step)
    with tracker.child("evaluation") as child:
        child.metrics({"accuracy": 0.25})
    tracker.close()
    assert time.monotonic() - began < 60  # the phase does not wait: a second for each metric would be more
    assert str(file) in said[-1] and tracker.broken
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["metrics"]["loss"] for line in lines[:100]] == list(range(100))
    assert lines[100]["run"] == "evaluation" and lines[100]["metrics"] == {"accuracy": 0.25}


def test_what_the_server_refuses_for_good_does_not_hold_up_the_rest(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_tracker, "FLUSH_SECONDS", 0.02)
    said: list[str] = []
    tracker = Tracker(Destination(uri, "stubborn", identity="eight"), file=tmp_path / "m", say=said.append)
    tracker.params({"rate": 1})
    tracker.params({"rate": 2})  # MLflow never changes a parameter
    tracker.metrics({"loss": 1.0})
    tracker.flush()
    tracker.close()
    assert runs(uri)["stubborn"].data.metrics == {"loss": 1.0}
    assert "params" in said[-1] and (tmp_path / "m").exists()


def test_without_a_server_a_phase_tracks_nothing_and_says_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    tracker = Tracker(None, file=tmp_path / "metrics.jsonl", say=said.append)
    tracker.metrics({"loss": 1.0})
    with tracker.child("evaluation") as child:
        child.metrics({"accuracy": 1.0})
    tracker.close()
    assert said == [] and not (tmp_path / "metrics.jsonl").exists()


def test_where_a_phase_reports_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def uri(target: str, by_hand: bool = True) -> str | None:
        found = destination(Request({}, target, output_file=None if by_hand else Path("f")), "toy", "x")
        return found.uri if found else None

    monkeypatch.chdir(tmp_path)
    assert uri("out") is None and uri("s3://bucket/out") is None
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    local = f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert uri("out") == local and uri("out", by_hand=False) is None
    assert uri("runs/demo/artifacts/out", by_hand=False) is None
    (tmp_path / "runs" / "demo" / "run.json").write_text("{}")
    assert uri("runs/demo/artifacts/out", by_hand=False) == local
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert uri("out") == uri("/minio/x", by_hand=False) == "http://mlflow:5000"


def test_flattening_nests_names_with_dots() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def failing(uri: str, monkeypatch: pytest.MonkeyPatch, task: str) -> list[str]:
    """What is said when this task of the run `kfp-1` fails for good."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("FORGE_TASK", task)
    said: list[str] = []
    fail_pipeline(in_pod("kfp-1"), task, said.append)
    return said


def starting(uri: str, monkeypatch: pytest.MonkeyPatch, task: str) -> dict[str, str]:
    """The task starts in the run `kfp-1`, and ends well; its lineage."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("FORGE_TASK", task)
    tracker = Tracker(destination(in_pod("kfp-1"), task, identity=f"identity of {task}"))
    tracker.close()
    assert tracker.broken == ""
    return tracker.lineage


def test_runs_in_mlflow_name_the_run_in_kfp(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lineage = starting(uri, monkeypatch, "bitnet")
    found = runs(uri)
    assert found["bitnet"].data.tags["kfp.run_id"] == found["kfp-1"].data.tags["kfp.run_id"] == "kfp-1"
    assert lineage == {
        "mlflow_run_id": found["bitnet"].info.run_id,
        "mlflow_experiment_id": found["bitnet"].info.experiment_id,
    }
    assert found["kfp-1"].info.status == "RUNNING"


def test_the_same_work_in_another_run_of_kfp_has_a_run_of_its_own(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    ids = set()
    for run in ("kfp-1", "kfp-2", "kfp-2"):
        tracker = Tracker(destination(in_pod(run), "bitnet", identity="the same"))
        tracker.close()
        ids.add(tracker.lineage["mlflow_run_id"])
    assert len(ids) == 2


def test_a_task_that_fails_ends_the_pipelines_run_and_its_retry_revives_it(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting(uri, monkeypatch, "baking")
    assert failing(uri, monkeypatch, "adas") == []
    assert runs(uri)["kfp-1"].info.status == "FAILED"
    starting(uri, monkeypatch, "baking")  # beside it, and not the one that failed
    assert runs(uri)["kfp-1"].info.status == "FAILED"
    starting(uri, monkeypatch, "adas")
    assert runs(uri)["kfp-1"].info.status == "RUNNING"


def test_a_task_that_fails_first_of_all_has_a_pipelines_run_to_end(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(uri, monkeypatch, "cognate-trunk")
    assert runs(uri)["kfp-1"].info.status == "FAILED" and "cognate-trunk" not in runs(uri)


def test_the_end_of_a_run_that_the_platform_gave_is_left_to_the_platform(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    parent = runs(uri)["one"].info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", parent)
    MlflowClient(uri).set_terminated(parent, "KILLED")
    starting(uri, monkeypatch, "bitnet")
    assert failing(uri, monkeypatch, "bitnet") == []
    found = runs(uri)
    assert found["one"].info.status == "KILLED" and "kfp-1" not in found
    assert found["bitnet"].data.tags["kfp.run_id"] == "kfp-1"


def test_only_a_cluster_leaves_the_pipelines_run_to_its_phases(
    uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    local = Request({}, str(tmp_path / "out"), output_file=tmp_path / "f", pipeline_run="demo")
    before = runs(uri)["demo"].info.status
    fail_pipeline(local, "bitnet", print)
    Tracker(destination(local, "bitnet", "nine")).close()
    after = runs(uri)
    assert after["demo"].info.status == before and "kfp.run_id" not in after["bitnet"].data.tags


def test_an_mlflow_that_is_away_does_not_hide_why_a_phase_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    [said] = failing("http://127.0.0.1:9", monkeypatch, "bitnet")
    assert said.startswith("MLflow was not told that the pipeline has failed")
