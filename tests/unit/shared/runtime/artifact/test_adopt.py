"""A plain Hugging Face model is taken as an artifact, and not written to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.shared.runtime.artifact.plain_model import adopt
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
    snapshot = tmp_path / "snapshots" / "0a1b2c"
    snapshot.mkdir(parents=True)
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


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "make_it", "words"),
    [
        ("model.safetensors", _fifo, "regular files only"),
        ("notes.txt", _fifo, "regular files only"),
        ("notes.txt", lambda path: path.symlink_to("nowhere"), "leads nowhere"),
        ("notes.txt", lambda path: path.symlink_to("notes.txt"), "leads nowhere"),
        ("notes.txt", lambda path: path.symlink_to("/etc/passwd"), "out of the model's folder"),
        ("notes.txt", lambda path: path.symlink_to("../secret"), "out of the model's folder"),
        ("notes", lambda path: path.symlink_to("/etc"), "out of the model's folder"),
        ("notes", lambda path: path.symlink_to("."), "out of the model's folder"),
    ],
)
def test_a_model_of_other_things_than_files_of_its_own_is_refused(
    tmp_path: Path, name: str, make_it: Callable[[Path], None], words: str
) -> None:
    folder = write_model(tmp_path / "model")
    (tmp_path / "secret").write_text("of somebody's")
    (folder / name).unlink(missing_ok=True)
    make_it(folder / name)
    with pytest.raises(ArtifactError, match=words) as refusal:
        adopt(folder)
    assert str(folder / name) in str(refusal.value)


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "notes.txt").symlink_to("code/notes.txt")
    assert adopt(folder).manifest.files["notes.txt"]["bytes"] == 2
