"""An artifact is whole, unchanged and harmless, or it is refused with the file's name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.shared.runtime.artifact.artifact import (
    MANIFEST,
    read,
    seal,
)
from components.shared.runtime.errors import ArtifactError
from tests.unit.shared.runtime.artifact.cases import INDEX, make, rewrite, write_model


def test_what_was_sealed_is_read_back(tmp_path: Path) -> None:
    known = {
        "parents": ["p"], "config": {"lr": 0.1}, "config_digest": "c", "seed": 7, "code_version": "v",
        "metrics": {"loss": 1}, "scores": {"memory": {"score": 0.5}}, "gates": [{"passed": True}],
        "timing": {"seconds": 2.5}, "extra": {"curves": {"x": [1, 2]}},
    }  # fmt: skip
    sealed = make(tmp_path / "artifact", **known)
    artifact = read(tmp_path / "artifact")
    assert artifact.manifest == sealed and artifact.digest == sealed.digest and artifact.kind == "model"
    assert {key: getattr(sealed, key) for key in known} == known
    assert set(sealed.files) == {
        "config.json", "code/notes.txt", "model-1.safetensors", "model-2.safetensors", INDEX
    }  # fmt: skip
    assert sealed.bytes == sum((tmp_path / "artifact" / name).stat().st_size for name in sealed.files)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_any_file_is_refused(artifact: Path, data: st.DataObject) -> None:
    files = sorted(path for path in artifact.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files), "file")
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1), "position")
    changed = bytearray(whole)
    changed[position] ^= data.draw(st.integers(1, 255), "bits")
    path.write_bytes(changed)
    try:
        with pytest.raises(ArtifactError, match=path.name):
            read(artifact)
    finally:
        path.write_bytes(whole)


def test_a_folder_without_a_manifest_is_refused(artifact: Path) -> None:
    (artifact / MANIFEST).unlink()
    with pytest.raises(ArtifactError, match=r"no forge\.json.*not finished"):
        read(artifact)
    with pytest.raises(ArtifactError, match="no such folder"):
        read(artifact / "nowhere")


def test_a_missing_file_is_named(artifact: Path) -> None:
    (artifact / "code" / "notes.txt").unlink()
    with pytest.raises(ArtifactError, match=r"missing.*notes\.txt"):
        read(artifact)


def test_a_file_that_the_manifest_does_not_know_is_named(artifact: Path) -> None:
    (artifact / "code" / "extra.py").touch()
    with pytest.raises(ArtifactError, match=r"not part.*extra\.py"):
        read(artifact)


def test_a_truncated_and_a_lengthened_file_are_named(artifact: Path) -> None:
    whole = (artifact / "config.json").read_bytes()
    (artifact / "config.json").write_bytes(whole[:-1])
    with pytest.raises(ArtifactError, match=r"truncated.*config\.json"):
        read(artifact)
    (artifact / "config.json").write_bytes(whole + b" ")
    with pytest.raises(ArtifactError, match=r"too long.*config\.json"):
        read(artifact)


def test_links_are_refused_when_read_and_when_sealed(artifact: Path) -> None:
    shutil.move(artifact / "config.json", artifact.parent / "config.json")
    (artifact / "config.json").symlink_to(artifact.parent / "config.json")
    for act in (read, lambda path: seal(path, kind="model", phase="cognate")):
        with pytest.raises(ArtifactError, match=r"no links.*config\.json"):
            act(artifact)


def test_a_linked_folder_is_refused(artifact: Path) -> None:
    shutil.move(artifact / "code", artifact.parent / "code")
    (artifact / "code").symlink_to(artifact.parent / "code")
    with pytest.raises(ArtifactError, match=r"no links.*code"):
        read(artifact)


def test_a_pipe_is_refused_instead_of_read(artifact: Path) -> None:
    os.mkfifo(artifact / "pipe")
    with pytest.raises(ArtifactError, match=r"regular files only.*pipe"):
        read(artifact)


@pytest.mark.parametrize(
    "name", ["model.bin", "a.pt", "a.pth", "code/a.pkl", "a.ckpt", "LOUD.PT", "a.pickle"]
)
def test_pickles_are_refused_by_name(artifact: Path, name: str) -> None:
    (artifact / name).touch()
    rewrite(artifact, lambda manifest: manifest["files"].update({name: {"sha256": "0", "bytes": 0}}))
    for act in (read, lambda path: seal(path, kind="model", phase="cognate")):
        with pytest.raises(ArtifactError, match=r"pickled.*safetensors"):
            act(artifact)


def test_an_unknown_kind_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nothing to seal"):
        seal(tmp_path, kind="model", phase="cognate")
    with pytest.raises(ArtifactError, match=r"unknown kind 'brain'.*model, trunk, population"):
        seal(write_model(tmp_path / "model"), kind="brain", phase="cognate")


def test_sealing_again_after_a_change_gives_a_new_whole_artifact(artifact: Path) -> None:
    before = read(artifact).digest
    (artifact / "README.md").write_text("card")
    after = seal(artifact, kind="model", phase="cognate")
    assert read(artifact).digest == after.digest != before
