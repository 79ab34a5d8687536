"""The last task of the pipeline in a pod: it makes the page from the records, and ends the run in MLflow."""

import json

import pytest

from components.shared.runtime.request import inputs
from pipelines.report import __main__ as report
from tests.pipeline.mlflow_runs import pipeline_run

RUN = "91db5f79-d1b0-4594-95fb-5f0c48db45d5"
ROOT = f"minio://mlpipeline/v2/artifacts/agent-forge/{RUN}"


def record(phase, digest, started, finished):
    manifest = {
        "format": 1, "kind": "model", "phase": phase, "digest": digest * 64, "parents": [], "config": {"profile": "tiny"},
        "config_digest": "c" * 64, "seed": 3, "metrics": {}, "gates": [], "scores": {}, "bytes": 1000, "parameters": 500,
        "extra": {},
    }  # fmt: skip
    times = {"started": started, "finished": finished, "seconds": finished - started}
    return {
        "format": 1, "task": phase, "phase": phase, "step": "", **times, "cpu_seconds": 1.0, "peak_memory_bytes": 10**8,
        "attempts": 1, "manifest": manifest, "curves": [],
    }  # fmt: skip


@pytest.fixture
def pod(tmp_path, monkeypatch):
    """The executor input of the report task over these records, as KFP's launcher passes it in a pod."""
    monkeypatch.setattr(inputs, "MOUNTS", {"minio": f"{tmp_path}/minio/"})
    monkeypatch.setenv("FORGE_PIPELINE_RUN", RUN)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)

    def request(*records):
        artifacts = {}
        for number, content in enumerate(records, 1):
            uri = f"{ROOT}/task-{number}/uuid/metrics"
            file = tmp_path / uri.replace("://", "/")
            file.parent.mkdir(parents=True)
            file.write_text(content if isinstance(content, str) else json.dumps(content))
            artifacts[f"record_{number}"] = {"artifacts": [{"name": str(number), "uri": uri}]}
        page = {"name": "page", "type": {"schemaTitle": "system.HTML"}, "uri": f"{ROOT}/report/uuid/page"}
        assessment = {"name": "assessment", "uri": f"{ROOT}/report/uuid/assessment"}
        outputs = {
            "artifacts": {"page": {"artifacts": [page]}, "assessment": {"artifacts": [assessment]}},
            "outputFile": str(tmp_path / "metadata.json"),
        }
        return json.dumps({"inputs": {"artifacts": artifacts}, "outputs": outputs})

    return request


def test_a_run_that_succeeds_has_its_page_and_is_finished_in_mlflow(pod, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client, made = pipeline_run(uri, RUN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    records = [record("cognate", "a", 100.0, 140.0), record("bitnet", "b", 140.0, 160.0)]
    assert report.main(["--executor-input", pod(*records)]) == 0
    page = (tmp_path / "minio" / ROOT.removeprefix("minio://") / "report" / "uuid" / "page").read_text()
    assert RUN in page and "bitnet" in page and "seed 3" in page and "<script" not in page
    ended = client.get_run(made)
    assert ended.info.status == "FINISHED" and ended.data.metrics["seconds"] == 60.0


def test_the_last_models_assessment_and_its_figures_are_given_to_kfp(pod, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, last = record("cognate", "a", 100.0, 140.0), record("bitnet", "b", 140.0, 160.0)
    for made, outcomes in ((first, "11110000"), (last, "11100000")):
        right = outcomes.count("1") / 8
        ends = {"score": right, "low": right - 0.2, "high": right + 0.2, "n": 8, "chance": 0.2}
        made["manifest"]["scores"] = {"reasoning": {**ends, "outcomes": outcomes, "asked": "x"}}
    last["manifest"]["parents"] = ["a" * 64]
    last["manifest"]["gates"] = [
        {
            "metric": "score/reasoning",
            "op": ">",
            "value": 0.375,
            "bound": 0.5,
            "passed": False,
            "on_fail": "warn",
        }
    ]
    assert report.main(["--executor-input", pod(first, last)]) == 0
    [kept] = json.loads((tmp_path / "metadata.json").read_text())["artifacts"]["assessment"]["artifacts"]
    assert kept["metadata"]["overall"] == pytest.approx((3 / 8 - 0.2) / 0.8)
    assert kept["metadata"]["over_base"] == pytest.approx(-1 / 8 / 0.8)
    place = tmp_path / "minio" / ROOT.removeprefix("minio://") / "report" / "uuid"
    found = json.loads((place / "assessment").read_text())
    assert "gate failed" in {each["rule"] for each in found["recommendations"]}
    page = (place / "page").read_text()
    assert "Overall, phase by phase" in page and "is not above guessing" in page


def test_a_run_that_kfps_own_plugin_made_is_not_ours_to_end(pod, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client, made = pipeline_run(uri, RUN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    assert report.main(["--executor-input", pod(record("adas", "a", 1.0, 2.0))]) == 0
    assert client.get_run(made).info.status == "RUNNING"


@pytest.mark.parametrize("content", ["", "[]", '{"manifest": 1}'])
def test_what_is_no_record_is_refused_by_its_place(pod, capsys, content):
    assert report.main(["--executor-input", pod(content)]) == 6
    assert "task-1/uuid/metrics" in capsys.readouterr().err


def test_no_records_at_all_are_refused(pod, capsys):
    assert report.main(["--executor-input", pod()]) == 6
    assert "no records" in capsys.readouterr().err
