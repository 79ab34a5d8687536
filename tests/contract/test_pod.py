"""A phase in a pod of Kubeflow Pipelines: what outlives the pod, what is tried again, and what is said."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime import code
from components.shared.runtime.checkpoint import checkpoints
from components.shared.runtime.executor import main
from components.shared.runtime.store.interface import Store
from components.shared.runtime.store.uri import open_store
from components.shared.runtime.tracking import mlflow_tracker
from tests.contract.forked import Forked
from tests.contract.in_pod import SHORT, clean, live  # noqa: F401
from tests.contract.pod import Pod
from tests.contract.stores.proxy import Proxy
from tests.contract.toy_phase import CONFIGS, Toy

LONG = ("toy.steps=150", "toy.pause=0.01", "toy.checkpoint_seconds=0.05", "toy.threads=1")
DEADLINE = 120.0


@pytest.fixture
def bucket(s3_uri: str) -> str:
    """KFP's own address of a bucket that this pod may use."""
    return s3_uri.replace("s3://", "minio://")


def by_hand(output: Path, *overrides: str) -> str:
    """The digest that the work has on a laptop."""
    assert main(Toy, ["--output", str(output), *overrides], configs=CONFIGS) == 0
    return str(json.loads((output / "forge.json").read_text())["digest"])


def wait_for(store: Store, process: Forked) -> None:
    """Until it says how far it is, and there is a checkpoint to go on from."""
    deadline = time.monotonic() + DEADLINE
    names = ("/state.json", "/toy.json")
    while not all(any(entry.key.endswith(name) for entry in store.list()) for name in names):
        assert process.poll() is None, process.output
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_pod_that_is_killed_goes_on_in_the_next_one_to_the_same_digest(bucket: str, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    moment = random.Random(seed)
    pods = [Pod(bucket, tmp_path / f"pod-{number}", execution=f"{number}") for number in range(2)]
    store = open_store(pods[0].run_root)
    process = pods[0].start(*LONG)
    wait_for(store, process)
    time.sleep(moment.uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.output
    process = pods[1].start(*LONG)
    assert process.wait() == 0, process.output
    errors = process.output
    assert "going on from the checkpoint at step" in errors and "pod's disk" not in errors
    assert pods[1].manifest.digest == by_hand(tmp_path / "laptop", *LONG)
    record = pods[1].record
    assert record["attempts"] == 2
    steps = [line["step"] for line in record["curves"] if line["step"] is not None]
    assert steps == list(range(150))  # what two pods have measured, each step once
    left = [entry.key for entry in store.list()]
    assert [key for key in left if not key.startswith("events/toy/")] == ["progress/toy.json"]
    progress = json.loads(store.get("progress/toy.json"))
    assert (progress["stage"], progress["step"], progress["attempt"]) == ("fit", 150, 2)
    assert progress["host"] and progress["updated"] >= progress["time"]


def test_a_store_that_fails_twice_and_then_works_costs_two_attempts_and_no_step(
    bucket: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(checkpoints, "SAVE_INTERVAL_FACTOR", 0)  # after each step, however slow the store
    attempts: list[int] = []
    with Proxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("FORGE_RETRIES", "3")
        monkeypatch.setenv("FORGE_RETRY_SECONDS", "0.01")

        class Unlucky(Toy):
            def validate_input(self) -> None:
                attempts.append(1)
                proxy.refuse = 0
                save = self.run.checkpoints.save

                def save_and_break(*given: Any) -> None:
                    save(*given)
                    proxy.refuse = 10**9 if len(attempts) < 3 else 0

                self.run.checkpoints.save = save_and_break  # type: ignore[method-assign]

        pod = Pod(bucket, tmp_path / "pod")
        assert live(pod, *SHORT, phase=Unlucky) == 0
    errors = capsys.readouterr().err
    assert len(attempts) == 3 and errors.count("attempt 1 of 4 failed: the store refuses") == 1
    assert "attempt 2 of 4 failed" in errors and "at step 1\n" in errors and "at step 2\n" in errors
    assert pod.manifest.digest == by_hand(tmp_path / "laptop", *SHORT)
    assert pod.record["attempts"] == 3
    assert [line["step"] for line in pod.record["curves"][:12]] == list(range(12))


def test_a_pod_asked_to_stop_in_a_pause_ends_at_once(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("FORGE_RETRIES", "1")
    monkeypatch.setenv("FORGE_RETRY_SECONDS", "100000")
    process = Pod(bucket, tmp_path / "pod").start(*SHORT)
    while "attempt 1 of 2 failed: the store does not answer" not in process.output:
        assert process.poll() is None, process.output
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert "start it again" in process.output and "Traceback" not in process.output


@pytest.mark.parametrize("wrong", ["bucket", "key"])
def test_what_will_not_pass_is_not_tried_again(
    wrong: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("FORGE_RETRIES", "5")
    monkeypatch.setenv("FORGE_RETRY_SECONDS", "100000")
    if wrong == "bucket":
        bucket = "minio://no-such-bucket"
        words = "the bucket does not exist"
    else:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        words = "there are no credentials"
    assert live(Pod(bucket, tmp_path / "pod", parameters={"checkpoint_root": bucket}), *SHORT) == 5
    errors = capsys.readouterr().err
    assert words in errors and "attempt" not in errors


@pytest.mark.parametrize("count", ["-1", "two", "1.5"])
def test_a_number_of_retries_that_is_none_is_refused(
    count: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("FORGE_RETRIES", count)
    assert live(Pod("minio://bucket", tmp_path / "pod"), *SHORT) == 2
    assert f"FORGE_RETRIES is '{count}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("root", "known", "words"),
    [
        ("minio://bucket", {}, "set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
        (
            "minio://bucket",
            {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
            "set AWS_ENDPOINT_URL, or",
        ),
        ("s3://bucket", {}, "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"),
        ("gs://bucket", {}, "no store of ours speaks gs://"),
    ],
)
def test_a_pod_that_knows_no_store_keeps_its_checkpoints_and_says_once_what_to_set(
    root: str, known: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    pod = Pod(root, tmp_path / "pod")
    gate = 'toy.gates=[{metric: loss, op: "<", value: 0}]'
    assert live(pod, *SHORT, gate) == 7
    errors = capsys.readouterr().err
    assert errors.count("checkpoints stay on this pod's disk") == 1 and words in errors
    assert list((pod.disk / "model.checkpoints").glob("*/*/state.json"))
    assert live(pod, *SHORT) == 0 and pod.record["attempts"] == 1


def test_a_place_for_checkpoints_that_is_given_is_used(bucket: str, tmp_path: Path, capsys: Any) -> None:
    pod = Pod("gs://elsewhere", tmp_path / "pod", parameters={"checkpoint_root": f"{bucket}/own"})
    assert live(pod, *SHORT, 'toy.gates=[{metric: loss, op: "<", value: 0}]') == 7
    assert any(entry.key.endswith("/state.json") for entry in open_store(f"{bucket}/own").list())
    assert "pod's disk" not in capsys.readouterr().err


def test_the_record_holds_the_manifest_the_curves_and_what_it_took(bucket: str, tmp_path: Path) -> None:
    pod = Pod(bucket, tmp_path / "pod")
    began = time.time()
    assert live(pod, *SHORT) == 0
    record, manifest = pod.record, pod.manifest
    assert record["manifest"] == json.loads((pod.disk / "model" / "forge.json").read_text())
    assert (record["format"], record["task"], record["phase"], record["step"]) == (1, "toy", "toy", "")
    assert began <= record["started"] < record["finished"] <= time.time()
    assert record["seconds"] > 0 and record["cpu_seconds"] > 0 and record["peak_memory_bytes"] > 10**7
    assert record["attempts"] == 1
    assert [line["step"] for line in record["curves"]] == [*range(12), None]
    assert set(record["curves"][0]) == {"time", "run", "step", "metrics"}
    assert pod.metadata("metrics") == {
        "loss": manifest.metrics["loss"],
        "score/reasoning": manifest.scores["reasoning"]["score"],
        "bytes": manifest.bytes,
        "parameters": 256,
        "seconds": record["seconds"],
    }
    found = pod.metadata("model")
    assert found["code_version"] == code.code_version("toy") and found["digest"] == manifest.digest
    assert found["parents"] == "[]" and found["seed"] == 0
    assert not any(value is None or isinstance(value, (list, dict)) for value in found.values())


def test_a_pod_that_finds_its_work_done_writes_the_record_again(bucket: str, tmp_path: Path) -> None:
    pod = Pod(bucket, tmp_path / "pod")
    assert live(pod, *SHORT, 'toy.gates=[{metric: loss, op: "<", value: 9}]') == 0
    assert json.loads(pod.metadata("model")["gates"]) == {"loss": True}
    first = pod.record
    (pod.disk / "metrics").unlink()
    (pod.disk / "output_metadata.json").unlink()
    assert live(pod, *SHORT, 'toy.gates=[{metric: loss, op: "<", value: 9}]') == 0
    assert pod.record["manifest"] == first["manifest"]
    assert pod.metadata("metrics")["loss"] == first["manifest"]["metrics"]["loss"]


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that nobody has started."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mlflow_tracker, "POD_PATIENCE", 0.5)


def test_metrics_that_mlflow_has_not_got_are_in_the_record(
    bucket: str, tmp_path: Path, no_mlflow: None, capsys: Any
) -> None:
    pod = Pod(bucket, tmp_path / "pod")
    assert live(pod, *SHORT) == 0
    errors = capsys.readouterr().err
    assert "they are in the task's record" in errors and "kept" not in errors
    assert len(pod.record["curves"]) == 13


def test_metrics_of_a_phase_that_fails_are_beside_its_checkpoints(
    bucket: str, tmp_path: Path, no_mlflow: None, capsys: Any
) -> None:
    pod = Pod(bucket, tmp_path / "pod")
    assert live(pod, *SHORT, 'toy.gates=[{metric: loss, op: "<", value: 0}]') == 7
    store = open_store(f"{pod.run_root}/checkpoints")
    [key] = [entry.key for entry in store.list() if entry.key.endswith("metrics.jsonl")]
    errors = capsys.readouterr().err
    assert f"the metrics are in {store.address(key)}" in errors and "kept" not in errors
    assert len(store.get(key).splitlines()) == 12


def test_metrics_on_a_pods_disk_are_not_called_kept(tmp_path: Path, no_mlflow: None, capsys: Any) -> None:
    gate = 'toy.gates=[{metric: loss, op: "<", value: 0}]'
    assert live(Pod("minio://bucket", tmp_path / "pod"), *SHORT, gate) == 7
    errors = capsys.readouterr().err
    assert "the metrics are lost with this pod" in errors and "kept" not in errors


def test_code_that_the_pipeline_was_not_compiled_for_is_refused(tmp_path: Path, capsys: Any) -> None:
    pod = Pod("minio://bucket", tmp_path / "pod", parameters={"code_version": "0.1.0+b0294f311aa5"})
    assert live(pod, *SHORT) == 2
    errors = capsys.readouterr().err
    assert "parameter code_version" in errors and "0.1.0+b0294f311aa5" in errors
    assert "build the images" in errors


def test_a_task_without_settings_is_refused_and_wrong_ones_are_named(tmp_path: Path, capsys: Any) -> None:
    for settings, words in (("", "no settings"), ('{"toy": {"optimizer": "adam"}}', "did you mean adamw?")):
        pod = Pod("minio://bucket", tmp_path / "pod", parameters={"settings": settings})
        assert live(pod) == 2
        errors = capsys.readouterr().err
        assert words in errors and "parameter settings" in errors and "Traceback" not in errors


def test_code_that_the_pipeline_was_compiled_for_is_taken(tmp_path: Path) -> None:
    told = {"code_version": code.code_version("toy")}
    pod = Pod("minio://bucket", tmp_path / "pod", parameters=told)
    assert live(pod, *SHORT) == 0
    assert pod.manifest.code_version == told["code_version"]


def test_checkpoints_that_cannot_be_deleted_do_not_undo_a_result(
    bucket: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    class Forgets(Toy):
        def get_metrics(self) -> dict[str, float]:
            os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
            self.run.checkpoints._store = None
            return super().get_metrics()

    pod = Pod(bucket, tmp_path / "pod")
    assert live(pod, *SHORT, phase=Forgets) == 0
    assert "could not be deleted" in capsys.readouterr().err and pod.manifest.phase == "toy"


def test_the_runtime_says_the_digests_of_what_runs_without_loading_anything_heavy() -> None:
    script = (
        "import sys; from components.shared.runtime import code; code.code_version('bitnet'); "
        "assert not {'torch', 'numpy', 'hydra', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
