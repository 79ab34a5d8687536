"""Every phase on every family, as the pipeline chains them; and what the document says of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import shapes
from tests.contract.in_process import torch_as_before, tracking  # noqa: F401
from tests.contract.shapes import matrix

DOCUMENT = Path(__file__).parents[3] / "docs" / "base-models-matrix.md"


@pytest.mark.parametrize("family", shapes.FAMILIES)
def test_all_eight_phases_take_the_family(
    family: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failed = []
    for phase, code, _ in matrix.cells(family, tmp_path):
        said = capfd.readouterr().err
        reason = matrix.REFUSED.get((family, phase))
        if (code == 0) == (reason is not None) or (reason is not None and (code == 1 or reason not in said)):
            failed.append(f"{phase}: exit {code}\n{said}")
    assert not failed, "\n".join(failed)


def test_the_documents_table_is_what_the_matrix_tests() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", DOCUMENT.read_text(), flags=re.MULTILINE)
    cells = {
        (family, phase): cell.strip()
        for family, row in rows
        for phase, cell in zip(matrix.PHASES, row.split("|"), strict=True)
    }
    expected = {
        (family, phase): "✓" for family in shapes.FAMILIES for phase in matrix.PHASES
    } | matrix.REFUSED
    assert cells == expected
