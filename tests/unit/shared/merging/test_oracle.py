"""Streamed merges against what mergekit made of the same models and the same configuration.

The outputs were recorded by tests/performance/merging/record_mergekit.py; the file says by which version. In bfloat16 the
linear merge is the same bit for bit. The others are recorded in float32, where no rounding of the stored type hides a
difference, and agree to a few units in the last place: sums are taken in another order. The Karcher mean is held to 10⁻⁴,
where mergekit's iteration stops.

What differs on purpose is kept out. mergekit breaks ties of an election in favour of the positive sign, where TIES's
paper has sgn(0) = 0 (no two sums are equal in these models). DARE's and DELLA's masks are drawn from the global generator
there, so that density 1 alone can be compared.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from components.shared.merging.mergekit.configuration import parse
from components.shared.merging.streaming.merge import StreamingMerge
from components.shared.runtime.tracking.progress import Progress
from tests.unit.shared.merging.mergekit_cases import CASES, write_models

RECORDED = Path(__file__).with_name("mergekit.safetensors")


def merged(folder: Path, case: str, **options: int) -> dict[str, torch.Tensor]:
    half, text = CASES[case]
    write_models(folder, half=half)
    (folder / "recipe.yml").write_text(text)
    StreamingMerge(parse(folder / "recipe.yml"), **options).write(folder / "out", progress=Progress("merge"))
    return load_file(folder / "out" / "model.safetensors")


@pytest.mark.parametrize("case", CASES)
def test_our_merge_is_mergekits(case: str, tmp_path: Path) -> None:
    ours = merged(tmp_path, case, piece=50)  # several pieces a tensor
    with safe_open(RECORDED, framework="pt") as recorded:
        assert recorded.metadata()["mergekit"] == "0.1.5"
        names: list[str] = list(recorded.keys())
        theirs = {
            key.partition("/")[2]: recorded.get_tensor(key) for key in names if key.startswith(f"{case}/")
        }
    assert theirs.keys() == ours.keys()
    for name, expected in theirs.items():
        assert ours[name].dtype == expected.dtype
        if expected.dtype == torch.bfloat16:
            assert torch.equal(ours[name], expected), name
        else:
            rtol, atol = (1e-4, 2e-5) if case == "karcher" else (2e-5, 2e-6)
            torch.testing.assert_close(
                ours[name], expected, rtol=rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}"
            )
