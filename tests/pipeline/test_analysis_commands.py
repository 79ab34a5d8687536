"""`forge models`, `forge metrics`, `forge analyze` and `forge training analyze`, on what phase training really writes."""

import json
import random
import shutil
import time

import pytest

from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus
from tests.contract import killing
from tests.contract.phases.test_training import TINY
from tests.contract.phases.tiny_ternary import llama


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a training's artifact, and of the checkpoints of one that was killed."""
    folder = tmp_path_factory.mktemp("trained")
    given = ["--input", str(llama(folder / "llama")), *TINY]
    killing.run("training", folder / "done", given)
    slow = [*given, "training.checkpoint_seconds=0", "training.grokfast={strength: 3}"]
    killing.kill("training", folder / "killed", slow, within=1.0, moment=random.Random(0))
    return folder


@pytest.fixture
def trained(bench, written):
    """A run whose training has made that artifact."""
    run = RunFolder(bench.runs / "demo")
    run.write(RunStatus("demo", "succeeded", time.time(), time.time()))
    output = run.task("training").output("model")
    shutil.copytree(written / "done", output)
    status = TaskStatus("training", "training", "training", status="succeeded", started=time.time())
    status.outputs = {"model": "artifacts/training/model"}
    run.task("training").write(status)
    return run


def test_a_runs_training_is_shown_stage_by_stage_with_what_it_measured(forge, trained, tmp_path):
    code, text = forge("training", "analyze", "--plot", tmp_path / "t.html")
    assert code == 0, text
    assert "of 10 stages kept" in text and "Grokfast: off" in text and "train loss" in text
    assert "loss through the ten stages: train" in text and "success rate: fresh items" in text
    assert "<svg" in (tmp_path / "t.html").read_text()
    code, text = forge("training", "analyze", "demo", "--json")
    report = json.loads(text)
    assert code == 0 and len(report["stages"]) == 10
    for stage in report["stages"]:
        assert stage["state"] == "done" and stage["steps"] == 5 and stage["regime"]
        assert stage["loss_before"] > 0 and 0 < stage["dimension_share"] < 1
        assert 0 <= stage["success"] <= 1 and (stage["in_band"] is None) == (stage["kind"] != "edge_of_chaos")
    assert report["metrics"]["stages_kept"] == sum(stage["kept"] for stage in report["stages"])


def test_a_checkpoint_of_a_training_that_was_killed_says_how_far_it_came(forge, written, tmp_path):
    place = written / "killed.checkpoints"
    code, text = forge("analyze", "--checkpoint", place, "--json")
    assert code == 0, text
    report = json.loads(text)
    assert report["kind"] == "checkpoint"
    assert 0 < len(report["curves"]["loss through the ten stages"]["x"]) < 50
    assert {stage["strength"] for stage in report["stages"] if stage["state"] == "done"} <= {3.0}
    code, text = forge("analyze", "-c", place, "--plot", tmp_path / "t.svg")
    assert code == 0 and (tmp_path / "t.svg").is_file()


def test_what_is_no_checkpoint_is_refused_in_words(forge, tmp_path):
    (tmp_path / "step.pt").write_bytes(b"")
    code, text = forge("analyze", "--checkpoint", tmp_path / "step.pt")
    assert code == 6 and "never opened" in text and "What to do" in text
    code, text = forge("analyze", "--checkpoint", tmp_path, "--plot", "x.png")
    assert code in (2, 6) and "Traceback" not in text


def test_the_models_and_metrics_of_a_run_are_listed(forge, trained):
    code, text = forge("models")
    assert code == 0 and "demo" in text and "training" in text and "reasoning" in text
    code, text = forge("models", "--json")
    [model] = json.loads(text)["models"]
    assert (
        model["run"] == "demo" and len(model["digest"]) == 64 and set(model["scores"]) >= {"memory", "safety"}
    )
    code, text = forge("models", "--sort", "byte")
    assert code == 2 and "did you mean bytes" in text
    code, text = forge("metrics", "demo", "--name", "geometry")
    assert code == 0 and "geometry: intrinsic dimension" in text and "held_out_loss" not in text
    code, text = forge("metrics", "--task", "trainin")
    assert code == 6 and "did you mean training" in text
    code, text = forge("metrics", "--task", "training", "--json")
    assert {"score/memory", "held_out_loss"} <= {curve["name"] for curve in json.loads(text)["metrics"]}


@pytest.mark.parametrize("command", [["models"], ["metrics"], ["analyze"], ["training", "analyze"]])
def test_the_help_has_examples(forge, command):
    code, text = forge(*command, "--help")
    assert code == 0 and f"\n  forge {' '.join(command)}" in text
