"""Files that are whole or not there."""

import os
from pathlib import Path

import pytest

from components.shared.runtime.atomic import write_atomically


def test_a_file_is_on_the_disk_before_it_is_in_its_place(tmp_path, monkeypatch):
    done = []
    synced, moved = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(os.fstat(file).st_size), synced(file)))
    monkeypatch.setattr(Path, "replace", lambda path, to: (done.append(to.name), moved(path, to)))
    write_atomically(tmp_path / "new" / "run.json", "{}\n")
    assert done == [3, "run.json"]


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch):
    write_atomically(tmp_path / "run.json", "old")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "run.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_text() == "old"
