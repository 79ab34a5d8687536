"""Publishing into a folder is all or nothing, and of two different artifacts one wins."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.shared.runtime.artifact.artifact import read, seal
from components.shared.runtime.artifact.publication import publish, refuse_occupied
from components.shared.runtime.errors import ArtifactError, LostRace
from tests.unit.shared.runtime.artifact.cases import make, write_model


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
    with pytest.raises(ArtifactError, match="not whole"):
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


@pytest.mark.parametrize("name", ["forge.lock", f".forge-partial-{'0' * 32}", "code/.forge-partial-x"])
def test_a_lock_or_a_draft_is_part_of_no_artifact_but_while_it_is_published(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "artifact"
    digest = make(folder).digest
    (folder / name).write_text("extra")
    with pytest.raises(ArtifactError, match="not part of the artifact"):
        read(folder)
    (folder / "forge.lock").write_text(json.dumps({"digest": "another"}))
    with pytest.raises(ArtifactError, match="not part of the artifact"):
        read(folder)
    (folder / "forge.lock").write_text(json.dumps({"digest": digest}))
    assert read(folder).digest == digest


def test_what_a_killed_writer_has_left_is_gone_when_its_content_is_published(tmp_path: Path) -> None:
    target = tmp_path / "target"
    digest = make(tmp_path / "staging").digest
    target.mkdir()
    (target / "forge.lock").write_text(json.dumps({"digest": digest}))
    (target / f".forge-partial-{'0' * 32}").write_text("half")
    (target / "config.json").write_text("{")
    publish(tmp_path / "staging", str(target))
    assert read(target).digest == digest
    names = {path.name for path in target.iterdir()}
    assert "forge.json" in names and not any(name.startswith((".forge", "forge.lock")) for name in names)


@pytest.mark.parametrize("where", ["/", "a folder with something in it", "a file"])
def test_a_target_that_nothing_can_be_published_to_is_refused_before_the_work(
    tmp_path: Path, where: str
) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    place = {"/": "/", "a file": str(tmp_path / "thesis.tex")}.get(where, str(tmp_path))
    with pytest.raises(ArtifactError, match="target"):
        refuse_occupied(place)
    (tmp_path / "a fresh disk" / "lost+found").mkdir(parents=True)
    for free in ("new", "a fresh disk"):
        refuse_occupied(str(tmp_path / free))
