"""Publishing is all or nothing in every store: races have one winner, and a killed writer leaves no half artifact."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from safetensors.numpy import save_file

from components.shared.runtime.artifact import publish_lock
from components.shared.runtime.artifact.artifact import MANIFEST, read, seal
from components.shared.runtime.artifact.manifest import Manifest
from components.shared.runtime.artifact.publication import publish
from components.shared.runtime.errors import ArtifactError, LostRace
from components.shared.runtime.lifecycle import published
from components.shared.runtime.store.interface import Store
from components.shared.runtime.store.local_copy import download
from components.shared.runtime.store.uri import open_store

ROOT = Path(__file__).parents[3]

PUBLISHER = """
import pathlib, sys, time
from components.shared.runtime.artifact import publish_lock
from components.shared.runtime.artifact.artifact import read
from components.shared.runtime.artifact.publication import publish
from components.shared.runtime.errors import ForgeError
from components.shared.runtime.store.uri import open_store
staging, target, start, way = sys.argv[1:]
print("ready", flush=True)
while not pathlib.Path(start).exists():
    time.sleep(0.001)
try:
    if way == "in place":
        publish_lock.publish(pathlib.Path(staging), read(staging).manifest, open_store(target))
    else:
        publish(pathlib.Path(staging), target)
except ForgeError as error:
    sys.exit(error.exit_code)
"""
"""In place: as onto a mount point or into S3, where no rename makes the whole appear at once."""


def make(folder: Path, value: float, files: int = 3) -> Manifest:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"value": value}))
    save_file({"weight": np.full(1000, value, np.float32)}, folder / "model.safetensors")
    for index in range(files):
        (folder / f"{index}.txt").write_text(f"{index} {value}")
    return seal(folder, kind="model", phase="cognate", timing={"folder": folder.name})


def start_publisher(staging: Path, target: str, start: Path, way: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PUBLISHER, str(staging), target, str(start), way]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def race(staging: Path, values: list[float], store: Store) -> list[str]:
    """Publish one artifact for each value at the same time; "published" or the error's name for each."""
    for index, value in enumerate(values):
        make(staging / str(index), value)
    start = Barrier(len(values))

    def run(index: int) -> str:
        manifest = read(staging / str(index)).manifest
        start.wait()
        try:
            publish_lock.publish(staging / str(index), manifest, store)
        except ArtifactError as error:
            return type(error).__name__
        return "published"

    with ThreadPoolExecutor(len(values)) as pool:
        return list(pool.map(run, range(len(values))))


def test_of_eight_threads_with_different_content_one_publishes(store_uri: str, tmp_path: Path) -> None:
    store = open_store(store_uri)
    ends = race(tmp_path / "staging", list(range(8)), store)
    assert sorted(ends) == ["LostRace"] * 7 + ["published"]
    artifact = read(download(store_uri, tmp_path / "cache"))
    assert json.loads((artifact.path / "config.json").read_text()) == {"value": ends.index("published")}
    assert not store.exists(publish_lock.LOCK)


def test_eight_threads_with_equal_content_all_publish(store_uri: str, tmp_path: Path) -> None:
    store = open_store(store_uri)
    assert race(tmp_path / "staging", [1.0] * 8, store) == ["published"] * 8
    assert read(download(store_uri, tmp_path / "cache")).digest == read(tmp_path / "staging" / "0").digest
    assert not store.exists(publish_lock.LOCK)


def test_of_two_processes_with_different_content_one_publishes(store_uri: str, tmp_path: Path) -> None:
    stagings = [tmp_path / "staging-0", tmp_path / "staging-1"]
    digests = [make(staging, index).digest for index, staging in enumerate(stagings)]
    start = tmp_path / "start"
    processes = [start_publisher(staging, store_uri, start, "publish") for staging in stagings]
    start.touch()
    codes = [process.wait(timeout=60) for process in processes]
    assert sorted(codes) == [0, LostRace.exit_code]
    assert read(download(store_uri, tmp_path / "cache")).digest == digests[codes.index(0)]


def test_a_killed_writer_leaves_no_artifact_and_its_content_can_be_published_again(
    store_uri: str, tmp_path: Path
) -> None:
    manifest = make(tmp_path / "staging", 1.0, files=60)
    (tmp_path / "start").touch()
    for attempt in range(8):
        uri = f"{store_uri}/{attempt}"
        process = start_publisher(tmp_path / "staging", uri, tmp_path / "start", "in place")
        store = open_store(uri)
        while len(store.list()) < 5 and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not store.exists(MANIFEST):
            break
        assert read(download(uri, tmp_path / "cache")).digest == manifest.digest, (
            "killed too late: then it is whole"
        )
    with pytest.raises(ArtifactError, match=r"no forge\.json"):
        read(download(uri, tmp_path / "cache"))

    make(tmp_path / "other", 2.0)
    with pytest.raises(LostRace) as lost:
        publish_lock.publish(tmp_path / "other", read(tmp_path / "other").manifest, store)
    for word in (f"process {process.pid}", manifest.digest, "if it is dead, delete everything below", uri):
        assert word in str(lost.value)

    publish_lock.publish(tmp_path / "staging", manifest, store)
    assert read(download(uri, tmp_path / "cache")).digest == manifest.digest
    assert not store.exists(publish_lock.LOCK)


def test_a_writer_that_died_after_the_manifest_leaves_a_whole_artifact(
    store_uri: str, tmp_path: Path
) -> None:
    manifest = make(tmp_path / "staging", 1.0)
    store = open_store(store_uri)
    publish_lock.publish(tmp_path / "staging", manifest, store)
    store.put(publish_lock.LOCK, json.dumps({"digest": manifest.digest}).encode())
    assert read(download(store_uri, tmp_path / "cache")).digest == manifest.digest
    publish_lock.publish(tmp_path / "staging", manifest, store)
    assert not store.exists(publish_lock.LOCK)


def test_a_place_that_holds_something_else_is_not_touched(store_uri: str, tmp_path: Path) -> None:
    store = open_store(store_uri)
    store.put("thesis.tex", b"precious")
    make(tmp_path / "staging", 1.0)
    with pytest.raises(ArtifactError, match=r"not part of the artifact.*thesis\.tex"):
        publish(tmp_path / "staging", store_uri)
    assert [entry.key for entry in store.list()] == ["thesis.tex"]


def test_a_lock_that_nobody_can_read_is_reported(store_uri: str, tmp_path: Path) -> None:
    open_store(store_uri).put(publish_lock.LOCK, b"\x00")
    make(tmp_path / "staging", 1.0)
    with pytest.raises(ArtifactError, match=r"lock.*not one of ours.*delete"):
        publish(tmp_path / "staging", store_uri)


def test_an_artifact_in_a_store_that_lost_a_file_is_not_taken_for_published(
    store_uri: str, tmp_path: Path
) -> None:
    manifest = make(tmp_path / "staging", 1.0)
    store = open_store(store_uri)
    publish_lock.publish(tmp_path / "staging", manifest, store)
    store.delete("1.txt")
    with pytest.raises(ArtifactError, match=r"not whole.*1\.txt"):
        publish(tmp_path / "staging", store_uri)


@pytest.mark.parametrize("damage", ["truncated", "of the same size"])
def test_what_is_not_whole_of_an_earlier_try_is_written_again(
    store_uri: str, tmp_path: Path, damage: str
) -> None:
    manifest = make(tmp_path / "staging", 1.0)
    store = open_store(store_uri)
    store.put(publish_lock.LOCK, json.dumps({"digest": manifest.digest}).encode())
    content = (tmp_path / "staging" / "config.json").read_bytes()
    store.put("config.json", content[:-4] if damage == "truncated" else bytes(len(content)))
    publish_lock.publish(tmp_path / "staging", manifest, store)
    assert read(download(store_uri, tmp_path / "cache")).digest == manifest.digest
    assert not store.exists(publish_lock.LOCK)


def test_a_published_file_of_the_right_size_and_other_bytes_is_not_published(
    store_uri: str, tmp_path: Path
) -> None:
    manifest = make(tmp_path / "staging", 1.0)
    store = open_store(store_uri)
    publish_lock.publish(tmp_path / "staging", manifest, store)
    assert published(store_uri) == manifest
    store.put("config.json", bytes(manifest.files["config.json"]["bytes"]))
    with pytest.raises(ArtifactError, match=r"config\.json"):
        published(store_uri)
    with pytest.raises(ArtifactError, match=r"not whole.*config\.json"):
        publish_lock.publish(tmp_path / "staging", manifest, store)


def test_a_store_that_does_not_keep_what_it_is_given_holds_no_artifact(
    store_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make(tmp_path / "staging", 1.0)
    store = open_store(store_uri)
    put = store.put
    monkeypatch.setattr(store, "put", lambda key, data: put(key, bytes(data.stat().st_size)))
    with pytest.raises(ArtifactError, match="not whole"):
        publish_lock.publish(tmp_path / "staging", manifest, store)
    assert not store.exists(MANIFEST)


@pytest.mark.parametrize("content", [b"{}", "of the same size"])
def test_somebody_elses_file_of_the_same_name_is_not_written_over(
    store_uri: str, tmp_path: Path, content: bytes | str
) -> None:
    manifest = make(tmp_path / "staging", 1.0)
    theirs = content if isinstance(content, bytes) else bytes(manifest.files["config.json"]["bytes"])
    store = open_store(store_uri)
    store.put("config.json", theirs)
    with pytest.raises(ArtifactError, match=r"not part of the artifact.*config\.json"):
        publish_lock.publish(tmp_path / "staging", manifest, store)
    assert store.get("config.json") == theirs and not store.exists(publish_lock.LOCK)
