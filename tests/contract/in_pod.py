"""For tests of a toy phase as in a pod, in their own process. Importing the fixture `clean` is enough: it is autouse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from components.shared.runtime.executor import main
from tests.contract.pod import RUN, Pod
from tests.contract.toy_phase import CONFIGS, Toy

SHORT = ("toy.steps=12", "toy.checkpoint_seconds=0", "toy.threads=1")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The environment of a pod that nobody has configured, and torch as it was before."""
    for name in [name for name in os.environ if name.startswith(("FORGE_", "MLFLOW_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("FORGE_PIPELINE_RUN", RUN)
    monkeypatch.setenv("FORGE_TASK", "toy")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def live(pod: Pod, *overrides: str, phase: type[Toy] = Toy) -> int:
    return main(phase, ["--executor-input", pod.given(*overrides)], configs=CONFIGS)
