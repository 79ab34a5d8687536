"""What the runtime promises for every phase, shown on a toy: resumed runs equal undisturbed ones, nothing is published
by halves, and every refusal is readable.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from components.shared.runtime import code, machine
from components.shared.runtime.artifact.artifact import Manifest
from components.shared.runtime.artifact.publish_lock import LOCK
from components.shared.runtime.config.compose import compose
from components.shared.runtime.errors import InputError, StoreError
from components.shared.runtime.executor import main
from components.shared.runtime.store.s3 import S3Store
from components.shared.runtime.store.uri import open_store
from components.shared.runtime.tracking import mlflow_tracker
from tests.contract.forked import DEADLINE, Forked
from tests.contract.toy_phase import CONFIGS, Settings, Toy
from tests.contract.toy_runs import clean, manifest, toy  # noqa: F401

LONG = ("toy.steps=150", "toy.pause=0.01", "toy.checkpoint_seconds=0.05", "toy.threads=1")


def start(*arguments: str | Path) -> Forked:
    return Forked("tests.contract.toy_phase", arguments, os.environ)


def kfp(folder: Path, *models: Path, output: str = "model", file: str = "out.json", **parameters: Any) -> str:
    """KFP's executor input for a task whose outputs lie in `folder`."""
    uris = [{"uri": str(model)} for model in models]
    return json.dumps(
        {
            "inputs": {
                "parameterValues": parameters,
                "artifacts": {"input_model": {"artifacts": uris}} if models else {},
            },
            "outputs": {
                "artifacts": {output: {"artifacts": [{"uri": str(folder / output), "name": output}]}},
                "outputFile": str(folder / file),
            },
        }
    )


def settings_of(*overrides: str) -> str:
    """The parameter `settings` of a task."""
    return compose("toy", Settings, overrides=overrides, configs=CONFIGS).parameter


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """What the long toy run gives when nobody disturbs it."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    process = start("--output", output, *LONG)
    assert process.wait() == 0, process.output
    return manifest(output)


def wait_for_a_checkpoint(output: Path, process: Forked) -> None:
    deadline = time.monotonic() + DEADLINE
    while not list(output.parent.glob("out.checkpoints/*/*/state.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_phase_killed_at_random_moments_ends_with_the_same_digest(
    tmp_path: Path, undisturbed: Manifest
) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    moment = random.Random(seed)
    output = tmp_path / "out"
    kills = 0
    while kills < 3:
        process = start("--output", output, *LONG)
        wait_for_a_checkpoint(output, process)
        time.sleep(moment.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:  # this process slept longer than it asked: the phase was done before
            shutil.rmtree(output)
            kills = 0
            continue
        kills += 1
        assert process.returncode == -signal.SIGKILL, process.output
        assert not output.exists()
    process = start("--output", output, *LONG)
    assert process.wait() == 0, process.output
    assert "going on from the checkpoint at step" in process.output
    assert manifest(output).digest == undisturbed.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out"
    ]  # checkpoints, staging and scratch are gone


def test_sigterm_writes_a_checkpoint_and_the_next_start_goes_on_from_there(
    tmp_path: Path, undisturbed: Manifest
) -> None:
    output = tmp_path / "out"
    patient = [*LONG, "toy.checkpoint_seconds=3600"]
    process = start("--output", output, "--progress", tmp_path / "progress", *patient)
    while '"step": 0' not in (
        (tmp_path / "progress").read_text() if (tmp_path / "progress").exists() else ""
    ):
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert "start it again" in process.output and "Traceback" not in process.output
    assert not output.exists() and len(list(tmp_path.glob("out.checkpoints/*/*/state.json"))) == 1
    assert toy("--output", output, *LONG) == 0  # checkpoint_seconds is not part of the identity
    assert manifest(output).digest == undisturbed.digest


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's choice is Linux's")
def test_where_memory_runs_out_a_phase_goes_before_the_one_that_runs_it(tmp_path: Path) -> None:
    process = start("--output", tmp_path / "out", *LONG)
    score, deadline = Path(f"/proc/{process.pid}/oom_score_adj"), time.monotonic() + DEADLINE
    while score.read_text() != "500\n":
        assert process.poll() is None and time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_equal_runs_have_equal_digests_and_another_seed_has_another(tmp_path: Path) -> None:
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert toy("--output", tmp_path / name, "--seed", seed, "toy.steps=5") == 0
    first, second, third = (manifest(tmp_path / name) for name in "abc")
    assert first.digest == second.digest != third.digest
    assert first.extra == second.extra and first.scores == second.scores and first.metrics == second.metrics


def test_more_threads_than_cores_are_taken_as_they_are_set_and_the_log_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 1.5)
    assert toy("--output", tmp_path / "out", "toy.steps=5", "toy.threads=2") == 0
    assert torch.get_num_threads() == 2
    assert "toy.threads is 2, and 1.5 cores can be used here" in capsys.readouterr().err


def test_muon_resumes_as_exactly_as_adamw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("toy.optimizer=muon", "toy.steps=12")
    assert toy("--output", tmp_path / "a", *options) == 0

    class Dies(Toy):
        def validate_input(self) -> None:
            save = self.run.checkpoints.save

            def save_and_die(*given: Any) -> None:
                save(*given)
                raise KeyboardInterrupt

            self.run.checkpoints.save = save_and_die  # type: ignore[method-assign]

    again = ["--output", str(tmp_path / "b"), *options, "toy.checkpoint_seconds=0"]
    assert main(Dies, again, configs=CONFIGS) == 130
    assert main(Dies, again, configs=CONFIGS) == 130
    assert main(Toy, again, configs=CONFIGS) == 0
    assert "at step 2" in capsys.readouterr().err
    assert manifest(tmp_path / "a").digest == manifest(tmp_path / "b").digest


def test_the_manifest_tells_where_the_artifact_comes_from(tmp_path: Path) -> None:
    assert toy("--output", tmp_path / "a", "toy.steps=5") == 0
    assert toy("--input", tmp_path / "a", "--output", tmp_path / "b", "toy.steps=6", "--seed", "4") == 0
    parent, child = manifest(tmp_path / "a"), manifest(tmp_path / "b")
    assert child.parents == [parent.digest] and parent.parents == []
    assert (child.phase, child.kind, child.seed) == ("toy", "model", 4)
    assert child.code_version == code.code_version("toy")
    assert child.config["toy"]["steps"] == 6
    assert child.config["evaluation"].items() >= {"items": 16, "batch": 8, "chat": False}.items()
    assert child.metrics["loss"] > 0 and child.scores["reasoning"]["n"] == 16
    assert child.timing["seconds"] > 0 and child.timing["peak_memory_bytes"] > 10**7
    assert len(child.extra["curves"]["fit"]["series"]["train"]) == 6


def test_a_phase_started_again_after_its_end_does_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.checkpoints").mkdir()
    assert toy("--output", tmp_path / "out", "toy.steps=5") == 0
    before = (tmp_path / "out" / "forge.json").stat().st_mtime_ns
    assert toy("--output", tmp_path / "out", "toy.steps=5") == 0
    assert "already" in capsys.readouterr().err
    assert (tmp_path / "out" / "forge.json").stat().st_mtime_ns == before


def test_what_a_phase_killed_behind_its_publication_left_is_removed_by_the_next_start(tmp_path: Path) -> None:
    assert toy("--output", tmp_path / "out", "toy.steps=5") == 0
    identity = manifest(tmp_path / "out").extra["identity"]
    (tmp_path / f".out.{identity[:16]}.lock").touch()
    assert toy("--output", tmp_path / "out", "toy.steps=5") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_lock_that_cannot_be_deleted_does_not_undo_a_publication_and_goes_with_the_next_start(
    tmp_path: Path, s3_uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = S3Store.delete

    def refused(store: S3Store, key: str) -> None:
        if key == LOCK:
            raise StoreError("access denied", where=key)
        delete(store, key)

    with monkeypatch.context() as patch:
        patch.setattr(S3Store, "delete", refused)
        assert toy("--output", f"{s3_uri}/out", "toy.steps=3") == 0
    assert "could not be deleted" in capsys.readouterr().err
    assert open_store(f"{s3_uri}/out").exists(LOCK)
    assert toy("--output", f"{s3_uri}/out", "toy.steps=3") == 0
    assert not open_store(f"{s3_uri}/out").exists(LOCK)


def test_a_target_that_holds_something_else_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy("--output", tmp_path / "out", "toy.steps=5") == 0
    digest = manifest(tmp_path / "out").digest
    assert toy("--output", tmp_path / "out", "toy.steps=6") == 3
    assert "holds another artifact" in capsys.readouterr().err
    assert manifest(tmp_path / "out").digest == digest


def test_two_processes_do_not_do_the_same_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        toy("--output", tmp_path / "out", "toy.steps=5", 'toy.gates=[{metric: loss, op: "<", value: 0}]') == 7
    )
    [place] = (tmp_path / "out.checkpoints").glob("*.work")
    with FileLock(place / "lock"):
        assert toy("--output", tmp_path / "out", "toy.steps=5") == 4
    assert "another process" in capsys.readouterr().err
    assert toy("--output", tmp_path / "out", "toy.steps=5") == 0


@pytest.mark.parametrize("file", ["executor_output.json", "deep/kfp-metadata-3"])
def test_the_metadata_goes_to_the_file_that_kfp_names(tmp_path: Path, file: str) -> None:
    given = kfp(tmp_path, output="results", file=file, settings=settings_of("toy.steps=5"), seed=3.0)
    assert main(Toy, ["--executor-input", given], configs=CONFIGS) == 0
    made = manifest(tmp_path / "results")
    [found] = json.loads((tmp_path / file).read_text())["artifacts"]["results"]["artifacts"]
    assert found == {
        "metadata": {
            "digest": made.digest,
            "bytes": made.bytes,
            "parameters": 256,
            "loss": made.metrics["loss"],
            "parents": "[]",
            "code_version": code.code_version("toy"),
            "seed": 3,
            "gates": "{}",
        }
    }
    (tmp_path / file).unlink()
    assert (
        main(Toy, ["--executor-input", given], configs=CONFIGS) == 0
    )  # done already, and the metadata again
    assert json.loads((tmp_path / file).read_text())["artifacts"]["results"]["artifacts"] == [found]


def test_a_list_of_artifacts_arrives_in_order(tmp_path: Path) -> None:
    for name in "ab":
        assert toy("--output", tmp_path / name, "toy.steps=5", "--set", f"name={name}") == 0

    class Counts(Toy):
        def validate_input(self) -> None:
            self.run.extra["inputs"] = [str(one.path) for one in self.run.inputs["input_model"]]
            self.run.inputs = {}

    given = kfp(tmp_path / "task", tmp_path / "b", tmp_path / "a", settings=settings_of("toy.steps=5"))
    assert main(Counts, ["--executor-input", given], configs=CONFIGS) == 0
    made = manifest(tmp_path / "task" / "model")
    assert made.extra["inputs"] == [str(tmp_path / "b"), str(tmp_path / "a")]
    assert made.parents == [manifest(tmp_path / "b").digest, manifest(tmp_path / "a").digest]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("toy.stepz=3", ["toy.stepz is unknown", "override 'toy.stepz=3'", "did you mean steps"]),
        ("toy.optimizer=adam", ["toy.optimizer", "one of adamw, muon", "did you mean adamw"]),
        ("toy.steps=0", ["toy.steps = 0", "integer ≥ 1 and ≤ 100000"]),
        ("toy.threads=100000000", ["toy.threads = 100000000", "integer ≥ 1 and ≤ 512"]),
        ("steps=3", ["there is no setting 'steps'", "toy.steps"]),
    ],
)
def test_a_wrong_setting_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, words: list[str]
) -> None:
    assert toy("--output", tmp_path / "out", override) == 2
    errors = capsys.readouterr().err
    assert all(word in errors for word in words), errors
    assert "Traceback" not in errors and list(tmp_path.iterdir()) == []


def test_a_damaged_input_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("--output", tmp_path / "a", "toy.steps=5") == 0
    with (tmp_path / "a" / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    assert toy("--input", tmp_path / "a", "--output", tmp_path / "b") == 3
    assert "model.safetensors" in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_a_step_that_a_phase_does_not_have_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy("--output", tmp_path / "out", "--step", "trunk") == 2
    assert "no step 'trunk'" in capsys.readouterr().err


def test_a_programming_error_shows_where_it_is_and_publishes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(Toy):
        def get_metrics(self) -> dict[str, float]:
            return {"loss": 1 / 0}

    assert main(Broken, ["--output", str(tmp_path / "out"), "toy.steps=5"], configs=CONFIGS) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_running_out_of_memory_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Greedy(Toy):
        def execute(self) -> None:
            raise torch.OutOfMemoryError("tried to allocate 2 TiB")

    assert main(Greedy, ["--output", str(tmp_path / "out")], configs=CONFIGS) == 9
    errors = capsys.readouterr().err
    assert "2 TiB" in errors and "lower the batch size" in errors


def test_a_refused_input_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Picky(Toy):
        def validate_input(self) -> None:
            raise InputError("not this one", where="input")

    assert main(Picky, ["--output", str(tmp_path / "out")], configs=CONFIGS) == 6
    assert "not this one" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_a_training_that_diverged_publishes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Diverges(Toy):
        def get_metrics(self) -> dict[str, float]:
            return {"loss": float("nan")}

    assert main(Diverges, ["--output", str(tmp_path / "out"), "toy.steps=5"], configs=CONFIGS) == 9
    assert "'loss' is nan" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "sqlite:////proc/no/such/place.db", "nonsense://"])
def test_a_broken_mlflow_neither_fails_nor_stalls_a_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mlflow_tracker, "PATIENCE", 2.0)
    assert toy("--output", tmp_path / "out", "toy.steps=5") == 0
    assert "metrics.jsonl" in capsys.readouterr().err
    [kept] = tmp_path.glob("out.checkpoints/*.work/metrics.jsonl")
    assert sum("loss" in json.loads(line)["metrics"] for line in kept.read_text().splitlines()) == 6


def test_a_bucket_is_an_output_and_an_input_as_good_as_a_folder(tmp_path: Path, s3_uri: str) -> None:
    options = ("toy.steps=3", "toy.checkpoint_seconds=0")
    assert toy("--output", tmp_path / "a", *options) == 0
    assert toy("--output", f"{s3_uri}/a", *options) == 0
    assert toy("--output", f"{s3_uri}/a", *options) == 0  # done already
    assert toy("--input", f"{s3_uri}/a", "--output", tmp_path / "b", *options) == 0
    assert toy("--input", tmp_path / "a", "--output", tmp_path / "c", *options) == 0
    assert manifest(tmp_path / "b").parents == [manifest(tmp_path / "a").digest]
    assert manifest(tmp_path / "b").digest == manifest(tmp_path / "c").digest
    assert {entry.key.split("/")[0] for entry in open_store(s3_uri).list()} == {
        "a"
    }  # no checkpoints are left
