"""Weights: safetensors alone, shards that agree with their index, and what is counted of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from components.shared.runtime.artifact.artifact import read, seal
from components.shared.runtime.artifact.plain_model import adopt
from components.shared.runtime.errors import ArtifactError
from tests.unit.shared.runtime.artifact.cases import INDEX, rewrite, write_model


def test_tensors_and_parameters_come_from_the_headers_and_from_storage(artifact: Path) -> None:
    manifest = read(artifact).manifest
    assert manifest.tensors == {
        "a.weight": {"dtype": "F32", "shape": [3, 4], "codec": "", "bytes": 48},
        "b.bias": {"dtype": "F16", "shape": [6], "codec": "", "bytes": 12},
        "b.code": {"dtype": "U8", "shape": [6], "codec": "ternary", "bytes": 6},
    }
    assert manifest.parameters == 3 * 4 + 6 * 5 + 6


def test_matrices_beside_the_model_are_not_its_parameters(tmp_path: Path) -> None:
    save_file(
        {"gram": np.zeros((2, 2), np.float32)}, write_model(tmp_path / "artifact") / "grams.safetensors"
    )
    manifest = seal(tmp_path / "artifact", kind="model", phase="cognate")
    assert "gram" not in manifest.tensors and "grams.safetensors" in manifest.files


def index_of(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda places: places.update({"c": "model-3.safetensors"}), "model-3.safetensors.*not there"),
        (lambda places: places.update({"c": "../model-1.safetensors"}), "not there"),
        (lambda places: places.update({"c": "model-1.safetensors"}), "disagree.*c.*index only"),
        (lambda places: places.pop("b.bias"), r"disagree.*b\.bias.*in the shard only"),
        (lambda places: places.update({"a.weight": "model-2.safetensors"}), "disagree"),
    ],
)
def test_an_index_that_disagrees_with_its_shards_is_refused(
    tmp_path: Path, change: Callable[[dict[str, str]], object], message: str
) -> None:
    folder = write_model(tmp_path / "model")
    index_of(folder, change)
    with pytest.raises(ArtifactError, match=message):
        seal(folder, kind="model", phase="cognate")
    with pytest.raises(ArtifactError, match=message):
        adopt(folder)


def test_read_checks_the_index_too_even_where_all_digests_are_right(artifact: Path) -> None:
    index_of(artifact, lambda places: places.pop("b.bias"))
    content = (artifact / INDEX).read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    rewrite(artifact, lambda manifest: manifest["files"].update({INDEX: entry}))
    with pytest.raises(ArtifactError, match=r"disagree.*b\.bias"):
        read(artifact)


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickle!")
    with pytest.raises(ArtifactError, match=r"not a whole safetensors.*model\.safetensors"):
        seal(tmp_path, kind="model", phase="cognate")


def test_one_file_and_shards_at_once_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1)}, write_model(tmp_path / "model") / "model.safetensors")
    with pytest.raises(ArtifactError, match="both"):
        seal(tmp_path / "model", kind="model", phase="cognate")
