"""An artifact for every test of this room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.shared.runtime.artifact.cases import make


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    make(tmp_path / "artifact")
    return tmp_path / "artifact"
