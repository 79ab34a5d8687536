"""An artifact is whole, unchanged and harmless, or it is refused with the file's name."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from components.shared.runtime.artifact.artifact import (
    MANIFEST,
    Manifest,
    adopt,
    digest_of,
    publish,
    read,
    seal,
)
from components.shared.runtime.artifact.manifest import decode, encode
from components.shared.runtime.errors import ArtifactError, LostRace

INDEX = "model.safetensors.index.json"


def write_model(folder: Path, value: float = 1.0) -> Path:
    """A model in two shards, with a tokenizer file in a subfolder."""
    (folder / "code").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"storage": {"b": {"codec": "ternary", "shape": [6, 5]}}}))
    (folder / "code" / "notes.txt").write_text("é")
    save_file({"a.weight": np.full((3, 4), value, np.float32)}, folder / "model-1.safetensors")
    coded = {"b.code": np.arange(6, dtype=np.uint8), "b.bias": np.zeros(6, np.float16)}
    save_file(coded, folder / "model-2.safetensors")
    places = {
        "a.weight": "model-1.safetensors",
        "b.code": "model-2.safetensors",
        "b.bias": "model-2.safetensors",
    }
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def make(folder: Path, value: float = 1.0, **known: object) -> Manifest:
    return seal(write_model(folder, value), **{"kind": "model", "phase": "cognate"} | known)  # type: ignore[arg-type]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    make(tmp_path / "artifact")
    return tmp_path / "artifact"


def rewrite(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the manifest and seal it again, as somebody would who knows how."""
    manifest = dataclasses.asdict(decode((folder / MANIFEST).read_bytes(), ""))
    change(manifest)
    manifest["digest"] = digest_of(manifest["files"])
    manifest["bytes"] = sum(entry["bytes"] for entry in manifest["files"].values())
    (folder / MANIFEST).write_bytes(encode(Manifest(**manifest)))


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


def test_the_digest_is_the_content_alone(tmp_path: Path) -> None:
    one = make(tmp_path / "one", seed=1, timing={"seconds": 1})
    two = make(tmp_path / "two", seed=2, metrics={"loss": 0.1}, parents=["x"])
    other = make(tmp_path / "other", value=2.0)
    assert one.digest == two.digest != other.digest


@given(st.permutations(["a", "b/c", "B", "é", "a.b"]))
def test_the_digest_does_not_depend_on_the_order_of_files(names: list[str]) -> None:
    files = {name: {"sha256": name * 3, "bytes": len(name)} for name in names}
    assert digest_of(files) == digest_of(dict(sorted(files.items())))  # type: ignore[arg-type]


def test_names_sizes_and_content_all_enter_the_digest() -> None:
    plain = {"a": {"sha256": "0", "bytes": 1}}
    changed = [
        {},
        {"b": {"sha256": "0", "bytes": 1}},
        {"a": {"sha256": "1", "bytes": 1}},
        {"a": {"sha256": "0", "bytes": 2}},
        {"a": {"sha256": "0", "bytes": 1}, "b": {"sha256": "0", "bytes": 1}},
    ]
    assert len({digest_of(files) for files in [plain, *changed]}) == 6  # type: ignore[arg-type]


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


def test_an_unknown_format_is_refused_as_such(artifact: Path) -> None:
    text = (artifact / MANIFEST).read_text()
    (artifact / MANIFEST).write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(ArtifactError, match=r"format 2.*this version reads format 1"):
        read(artifact)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "\x00", "\xff", '{"format": 1}', '{"format": 1, "seal": NaN}']
)
def test_a_damaged_manifest_is_refused(artifact: Path, text: str) -> None:
    (artifact / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"the manifest.*forge\.json"):
        read(artifact)


@pytest.mark.parametrize(
    "change", [(b" ", b"  "), (b" ", b"\t"), (b"\n", b""), (b"cognate", b"cogn\\u0061te")]
)
def test_a_manifest_that_says_the_same_in_other_bytes_is_refused(
    artifact: Path, change: tuple[bytes, bytes]
) -> None:
    text = (artifact / MANIFEST).read_bytes()
    (artifact / MANIFEST).write_bytes(text.replace(*change, 1))
    assert json.loads((artifact / MANIFEST).read_bytes()) == json.loads(text)
    with pytest.raises(ArtifactError, match="does not match its own seal"):
        read(artifact)


@pytest.mark.parametrize("field", ["seed", "files", "kind"])
def test_a_sealed_manifest_with_a_missing_or_wrong_field_is_refused(artifact: Path, field: str) -> None:
    for change in ("missing", "wrong"):
        content = json.loads((artifact / MANIFEST).read_text())
        del content["seal"]
        if change == "missing":
            del content[field]
        else:
            content[field] = "wrong"
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        content["seal"] = hashlib.sha256(text.encode()).hexdigest()
        path = artifact.parent / "manifest"
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        with pytest.raises(ArtifactError, match=field):
            decode(path.read_bytes(), "here")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "a\\b", "a//b", "a\nb", MANIFEST])
def test_a_name_that_leaves_the_folder_is_refused(artifact: Path, name: str) -> None:
    rewrite(artifact, lambda manifest: manifest["files"].update({name: {"sha256": "0", "bytes": 0}}))
    with pytest.raises(ArtifactError, match="unsafe file name"):
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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, np.int64(3), Path("x")])
def test_what_is_not_json_is_refused_with_its_place(tmp_path: Path, value: object) -> None:
    folder = write_model(tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"extra\.curves\[1\]\.y is"):
        seal(folder, kind="model", phase="cognate", extra={"curves": [{"y": 1}, {"y": value}]})
    assert not (folder / MANIFEST).exists()


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


@pytest.mark.parametrize("existing", ["nothing", "an empty folder"])
def test_an_artifact_is_published_to(tmp_path: Path, existing: str) -> None:
    target = tmp_path / "deep" / "target"
    if existing == "an empty folder":
        target.mkdir(parents=True)
    digest = make(tmp_path / "staging").digest
    publish(tmp_path / "staging", str(target))
    assert read(target).digest == digest
    assert [path.name for path in target.parent.iterdir()] == ["target"], "nothing is left beside it"


def test_the_same_content_may_be_published_again_and_another_may_not(tmp_path: Path) -> None:
    target = str(tmp_path / "target")
    for staging in ("first", "second"):
        make(tmp_path / staging, timing={"seconds": len(staging)})
        publish(tmp_path / staging, target)
    make(tmp_path / "other", value=2.0)
    with pytest.raises(LostRace, match="another artifact is published"):
        publish(tmp_path / "other", target)
    assert read(target).manifest.timing == {"seconds": 5}


@pytest.mark.parametrize("existing", ["nothing", "an empty folder"])
def test_of_sixteen_threads_that_publish_to_a_folder_one_wins(tmp_path: Path, existing: str) -> None:
    target = tmp_path / "target"
    if existing == "an empty folder":
        target.mkdir()
    digests = [make(tmp_path / f"staging-{index}", index).digest for index in range(16)]
    start = threading.Barrier(16)

    def race(index: int) -> bool:
        start.wait()
        try:
            publish(tmp_path / f"staging-{index}", str(target))
        except LostRace:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(race, range(16)))
    assert won.count(True) == 1
    assert read(target).digest == digests[won.index(True)]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no second file system here")
def test_a_staging_folder_on_another_file_system_is_copied_beside_the_target_first(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if os.stat(elsewhere).st_dev == tmp_path.stat().st_dev:
            pytest.skip("the temporary folder is on the same file system")
        digest = make(Path(elsewhere) / "staging").digest
        publish(Path(elsewhere) / "staging", str(tmp_path / "target"))
    assert read(tmp_path / "target").digest == digest
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize("reason", [errno.EBUSY, errno.EACCES])
def test_a_target_that_cannot_be_renamed_onto_is_written_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """A mount point says EBUSY, a parent that is not ours EACCES. Mounting takes rights that a test has not."""

    def refuse(self: Path, target: object) -> None:
        raise OSError(reason, os.strerror(reason))

    (tmp_path / "target").mkdir()
    digest = make(tmp_path / "staging").digest
    monkeypatch.setattr(Path, "rename", refuse)
    publish(tmp_path / "staging", str(tmp_path / "target"))
    assert read(tmp_path / "target").digest == digest


def test_a_damaged_copy_at_the_target_is_no_success(tmp_path: Path) -> None:
    target = tmp_path / "target"
    make(tmp_path / "first")
    publish(tmp_path / "first", str(target))
    shard = target / "model-1.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\xff")
    make(tmp_path / "second")
    with pytest.raises(ArtifactError, match="changed after"):
        publish(tmp_path / "second", str(target))


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "thesis.tex").write_text("precious")
    make(tmp_path / "staging")
    with pytest.raises(ArtifactError, match=r"not part of the artifact.*thesis\.tex"):
        publish(tmp_path / "staging", str(target))
    assert [path.name for path in target.iterdir()] == ["thesis.tex"]


def test_an_unsealed_or_changed_folder_is_not_published(tmp_path: Path) -> None:
    write_model(tmp_path / "staging")
    with pytest.raises(ArtifactError, match=r"no forge\.json"):
        publish(tmp_path / "staging", str(tmp_path / "target"))
    seal(tmp_path / "staging", kind="model", phase="cognate")
    (tmp_path / "staging" / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"config\.json"):
        publish(tmp_path / "staging", str(tmp_path / "target"))
    assert not (tmp_path / "target").exists()


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    make(tmp_path / "staging")
    with pytest.raises(ArtifactError, match=r"cannot be published.*target"):
        publish(tmp_path / "staging", str(tmp_path / "target"))
