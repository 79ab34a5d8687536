"""A plain Hugging Face model is taken as an artifact, and not written to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.shared.runtime.artifact.artifact import (
    adopt,
)
from components.shared.runtime.errors import ArtifactError
from tests.unit.shared.runtime.artifact.cases import INDEX, make, write_model


def test_a_plain_model_is_adopted_with_the_digest_that_it_would_have_had(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "downloaded").write_text("yesterday")
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    adopted = adopt(folder)
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    sealed = make(tmp_path / "sealed")
    assert adopted.digest == sealed.digest
    assert adopted.manifest.tensors == sealed.tensors and adopted.manifest.parents == []


def test_the_hugging_face_cache_made_of_links_is_adopted(tmp_path: Path) -> None:
    blobs = write_model(tmp_path / "blobs")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for path in blobs.iterdir():
        if path.is_file():
            (snapshot / path.name).symlink_to(path)
    shutil.rmtree(blobs / "code")
    assert adopt(snapshot).digest == adopt(blobs).digest


def test_what_cannot_be_adopted_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "training_args.bin").touch()
    with pytest.raises(ArtifactError, match=r"pickled.*training_args\.bin"):
        adopt(folder)
    (folder / "training_args.bin").unlink()
    (folder / INDEX).unlink()
    with pytest.raises(ArtifactError, match=r"neither model\.safetensors nor"):
        adopt(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"no config\.json"):
        adopt(folder)
    make(tmp_path / "artifact")
    with pytest.raises(ArtifactError, match="an artifact already"):
        adopt(tmp_path / "artifact")
