"""For tests of a toy phase by hand, in their own process. Importing the fixture `clean` is enough: it is autouse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.artifact import Manifest
from components.shared.runtime.executor import main
from tests.contract.toy_phase import CONFIGS, Toy


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No tracking server, no runner, and torch as it was before."""
    for name in [name for name in os.environ if name.startswith(("FORGE_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def toy(*arguments: str | Path) -> int:
    return main(Toy, [*map(str, arguments)], configs=CONFIGS)


def manifest(folder: Path) -> Manifest:
    return artifact.read(folder).manifest
