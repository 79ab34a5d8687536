"""What MLflow holds of a phase that runs in a pod: one run for all its tries, ended by a failure for good alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.errors import Interrupted, PhaseFailed, StoreError
from components.shared.runtime.tracking import mlflow_tracker
from tests.contract.in_pod import SHORT, clean, live  # noqa: F401
from tests.contract.pod import RUN, Pod
from tests.contract.toy_phase import Toy


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database, with nothing in it: making one takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow(empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of a database of the test's own, which pods use too."""
    from mlflow.tracking import MlflowClient

    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(mlflow_tracker, "POD_PATIENCE", 600.0)
    return MlflowClient(os.environ["MLFLOW_TRACKING_URI"])


def statuses(mlflow: Any) -> dict[str, str]:
    ids = [one.experiment_id for one in mlflow.search_experiments()]
    return {run.info.run_name: run.info.status for run in mlflow.search_runs(ids)}


def test_the_run_in_mlflow_ends_with_a_failure_for_good_and_goes_on_with_the_next_pod(
    mlflow: Any, tmp_path: Path
) -> None:
    class Fails(Toy):
        def execute(self) -> None:
            raise PhaseFailed("nothing came out of it")

    assert live(Pod("minio://bucket", tmp_path / "first"), *SHORT, phase=Fails) == 9
    assert statuses(mlflow) == {"toy": "FAILED", RUN: "FAILED"}
    pod = Pod("minio://bucket", tmp_path / "second", execution="2")
    assert live(pod, *SHORT) == 0
    assert statuses(mlflow) == {"toy": "FINISHED", RUN: "RUNNING"}  # its end is the report's
    run = mlflow.get_run(pod.metadata("model")["mlflow_run_id"])
    assert run.info.experiment_id == pod.metadata("model")["mlflow_experiment_id"]
    assert run.data.tags["kfp.run_id"] == RUN and run.data.tags["forge.output"] == pod.manifest.digest


def test_a_failure_before_any_work_ends_the_run_in_mlflow_too(mlflow: Any, tmp_path: Path) -> None:
    wrong = {"settings": '{"toy": {"steps": 0}}'}
    assert live(Pod("minio://bucket", tmp_path / "pod", parameters=wrong)) == 2
    assert statuses(mlflow) == {RUN: "FAILED"}


def test_a_phase_that_was_interrupted_or_is_tried_again_does_not_end_the_run_in_mlflow(
    mlflow: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_RETRIES", "1")
    monkeypatch.setenv("FORGE_RETRY_SECONDS", "0")
    seen: list[dict[str, str]] = []

    class Fails(Toy):
        def execute(self) -> None:
            self.run.tracker.flush()
            seen.append(statuses(mlflow))
            if len(seen) == 1:
                raise StoreError("the store does not answer", transient=True)
            raise Interrupted("stopped as asked")

    assert live(Pod("minio://bucket", tmp_path / "pod"), *SHORT, phase=Fails) == 75
    assert [found[RUN] for found in [*seen, statuses(mlflow)]] == ["RUNNING"] * 3
    assert statuses(mlflow)["toy"] == "KILLED"


def test_a_result_gets_the_name_in_the_registry_that_the_settings_say(mlflow: Any, tmp_path: Path) -> None:
    pod = Pod("minio://bucket", tmp_path / "pod")
    assert live(pod, *SHORT, "toy.register_as=agent-forge") == 0
    [version] = mlflow.search_model_versions("name='agent-forge'")
    assert version.run_id == pod.metadata("model")["mlflow_run_id"]
    registered = Path(version.source.removeprefix("file://"))
    assert json.loads((registered / "forge.json").read_text())["digest"] == pod.manifest.digest
