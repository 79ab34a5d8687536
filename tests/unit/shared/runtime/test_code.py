"""Which code and which files run: digests that change with what a phase uses, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.shared.runtime import code
from components.shared.runtime.code import VERSION


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name in ("shared", "toy", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "phase.py").write_text("1")
    return tmp_path


def digest(root: Path) -> str:
    code.code_digest.cache_clear()
    return code.code_digest(("shared", "toy"), root)


@pytest.mark.parametrize("name", ["toy/phase.py", "toy/deep/new.py", "shared/table.json"])
def test_a_change_of_the_phase_or_of_the_shared_code_is_other_code(name: str, packages: Path) -> None:
    before = digest(packages)
    (packages / name).parent.mkdir(exist_ok=True)
    (packages / name).write_text("2")
    assert digest(packages) != before


@pytest.mark.parametrize(
    "name", ["other/phase.py", "toy/README.md", "toy/component.py", "toy/__pycache__/phase.cpython-311.pyc"]
)
def test_another_phase_and_what_only_documents_or_compiles_is_not(name: str, packages: Path) -> None:
    before = digest(packages)
    (packages / name).parent.mkdir(exist_ok=True)
    (packages / name).write_text("2")
    assert digest(packages) == before


def test_a_version_names_the_project_and_its_code() -> None:
    version, _, digits = code.code_version("bitnet").partition("+")
    assert version == VERSION and len(digits) == 12
    assert code.code_version("bitnet") != code.code_version("adas")
