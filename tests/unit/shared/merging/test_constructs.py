"""Published constructs of mergekit's configurations, through the command line, against what mergekit makes of them.

The figures were recorded by tests/performance/merging/record_mergekit.py. DARE and DELLA draw their masks from other
generators than mergekit's: they are held to its shapes, and to its numbers where nothing is dropped (test_oracle.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from typer.testing import CliRunner

from pipelines.cli import app
from tests.unit.shared.merging.mergekit_constructs import CONSTRUCTS, add_tokens, write_models

RECORDED = Path(__file__).with_name("constructs.safetensors")
ACCEPTED = [name for name, construct in CONSTRUCTS.items() if construct.compared != "refused"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("constructs")
    write_models(folder)
    return folder


def merge(folder: Path, text: str, out: Path) -> tuple[int, str]:
    configuration = folder / "configuration.yml"
    configuration.write_text(text)
    result = CliRunner().invoke(app, ["merge", "--config", str(configuration), "-o", str(out)])
    return result.exit_code, result.output


def recorded(name: str) -> torch.Tensor:
    with safe_open(RECORDED, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor


def vector(folder: Path) -> torch.Tensor:
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].float().flatten() for name in sorted(tensors)])


def test_there_are_forty_constructs_and_mergekit_takes_thirty_seven() -> None:
    with safe_open(RECORDED, framework="pt") as file:
        assert sorted(file.keys()) == sorted(ACCEPTED)
    assert len(CONSTRUCTS) == 40 and len(ACCEPTED) == 37


@pytest.mark.parametrize("name", [name for name in ACCEPTED if "union" not in name])
def test_a_construct_is_merged_as_mergekit_merges_it(name: str, models: Path, tmp_path: Path) -> None:
    code, output = merge(models, CONSTRUCTS[name].text, tmp_path / "out")
    assert code == 0, output
    ours, theirs = vector(tmp_path / "out"), recorded(name)
    assert ours.shape == theirs.shape
    if CONSTRUCTS[name].compared == "equal":
        half = "bfloat16" in CONSTRUCTS[name].text
        rtol, atol = (1e-2, 1e-5) if half else (1e-4, 2e-5)
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


def test_a_union_of_vocabularies_has_mergekits_rows(tmp_path: Path) -> None:
    write_models(tmp_path)
    add_tokens(tmp_path)
    name = next(name for name in ACCEPTED if "union" in name)
    code, output = merge(tmp_path, CONSTRUCTS[name].text, tmp_path / "out")
    assert code == 0, output
    torch.testing.assert_close(vector(tmp_path / "out"), recorded(name), rtol=1e-4, atol=2e-5)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 20
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert [tokenizer.token_to_id(token) for token in ("<two>", "<end>", "<new>", "<zero>")] == [
        12,
        13,
        14,
        15,
    ]


@pytest.mark.parametrize("name", [name for name in CONSTRUCTS if name not in ACCEPTED])
def test_a_method_that_there_is_not_is_refused_by_name(name: str, models: Path, tmp_path: Path) -> None:
    code, output = merge(models, CONSTRUCTS[name].text, tmp_path / "out")
    assert code == 2 and f"the method {name} is not supported" in output
