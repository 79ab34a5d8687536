"""The bench on which toy pipelines run."""

from pathlib import Path

import pytest

from tests.pipeline.toy_pipelines import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "runs").mkdir()
    return Bench(tmp_path / "runs")
