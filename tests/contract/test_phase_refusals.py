"""What a phase cannot work with ends in one line that says so, and never in a traceback, a hang or a changed input."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.shared.runtime.artifact import artifact
from components.shared.runtime.checkpoint import scratch
from components.shared.runtime.errors import LostRace
from components.shared.runtime.executor import main
from components.shared.runtime.request.inputs import Request
from components.shared.runtime.store.uri import open_store
from tests.contract.in_process import torch_as_before, tracking  # noqa: F401
from tests.contract.toy_phase import CONFIGS, Toy
from tests.contract.toy_runs import toy

SHORT = ("toy.steps=2", "toy.checkpoint_seconds=0")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str | Path) -> str:
        code = toy(*arguments)
        said = capsys.readouterr().err
        assert code not in (0, 1) and "Traceback" not in said and "What to do" in said, (code, said)
        return said

    return run


@pytest.mark.parametrize(
    "place",
    [
        "/proc/x",
        "/etc/passwd/x",
        "/etc/passwd",
        "x" * 300,
        "a\ud800b",
        "a\0b",
        "/",
        "/dev/null",
        "/dev/full/x",
    ],
    ids=repr,
)
def test_an_output_that_is_no_place_is_refused(
    refused: Callable[..., str], tmp_path: Path, place: str
) -> None:
    before = set(os.listdir("/"))
    refused("--output", place, *SHORT)
    assert set(os.listdir("/")) == before
    if place != "/":
        refused("--output", tmp_path / "out", "--checkpoints", place, *SHORT)


def test_checkpoints_of_the_environment_that_are_no_place_are_refused(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_CHECKPOINTS", "/etc/passwd")
    assert "/etc/passwd" in refused("--output", tmp_path / "out", *SHORT)


@pytest.mark.parametrize("value", ["seed=1e400", "x=1e400", "x=[NaN]", 'x="\\ud800"'])
def test_a_parameter_that_no_manifest_could_keep_is_refused(
    refused: Callable[..., str], tmp_path: Path, value: str
) -> None:
    refused("--output", tmp_path / "out", "--set", value, *SHORT)


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file may grow over a thousand bytes: what a full disk is, without one. Not for long: pytest writes files, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "settings", [SHORT, ("toy.steps=2", "toy.checkpoint_seconds=3600")], ids=["checkpoint", "output"]
)
def test_a_disk_that_takes_no_more_is_said_in_a_line(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    monkeypatch.setattr("components.shared.runtime.lifecycle.mlflow_tracker.destination", lambda *_: None)
    with small_files():
        refused("--output", tmp_path / "out", *settings)
    assert not (tmp_path / "out").exists()


class Meddled(Toy):
    """Somebody writes into the input while the phase works on it."""

    def execute(self) -> None:
        super().execute()
        config = self.run.artifact.path / "config.json"
        config.write_text(config.read_text().replace("toy", "yot"))


def test_an_input_that_is_changed_during_the_work_makes_no_artifact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy("--output", tmp_path / "first", *SHORT) == 0
    arguments = ["--input", str(tmp_path / "first"), "--output", str(tmp_path / "second"), *SHORT]
    assert main(Meddled, arguments, configs=CONFIGS) == 3
    assert "config.json" in capsys.readouterr().err and not (tmp_path / "second").exists()


def test_two_processes_with_one_target_and_checkpoints_apart_do_not_share_their_staging(
    tmp_path: Path,
) -> None:
    request = Request({}, str(tmp_path / "out"))
    with scratch.staging(request, "ab" * 32, tmp_path / "one") as staging:
        (staging / "model.safetensors").touch()
        with (
            pytest.raises(LostRace, match="another process"),
            scratch.staging(request, "ab" * 32, tmp_path / "two"),
        ):
            pass
        assert (staging / "model.safetensors").exists()
    with scratch.staging(request, "ab" * 32, tmp_path / "two") as staging:
        assert not any(staging.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_stay_where_the_published_artifact_is_not_whole(
    tmp_path: Path, s3_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--output", f"{s3_uri}/out", "--checkpoints", str(tmp_path / "checkpoints"), *SHORT)
    assert toy(*arguments) == 0
    store = open_store(f"{s3_uri}/out")
    size = next(entry.bytes for entry in store.list() if entry.key == "config.json")
    store.put("config.json", bytes(size))
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    (tmp_path / "checkpoints" / "kept").touch()
    assert toy(*arguments) == 3
    assert "config.json" in capsys.readouterr().err and (tmp_path / "checkpoints" / "kept").exists()


def test_nothing_of_an_artifact_is_taken_for_a_model_that_is_a_fifo(tmp_path: Path) -> None:
    assert toy("--output", tmp_path / "out", *SHORT) == 0
    os.mkfifo(tmp_path / "out" / "pipe")
    with pytest.raises(artifact.ArtifactError, match="regular files only"):
        artifact.read(tmp_path / "out")
