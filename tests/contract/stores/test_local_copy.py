"""A bucket's files on this machine: the store is the truth, and a copy that differs from it is fetched again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from components.shared.runtime.errors import StoreError
from components.shared.runtime.store import local_copy
from components.shared.runtime.store.local_copy import download
from components.shared.runtime.store.uri import open_store


@pytest.fixture
def address(s3_uri: str) -> str:
    store = open_store(s3_uri)
    store.put("config.json", b"{}")
    store.put("code/notes.txt", b"notes")
    return s3_uri


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").write_bytes(b"[]"),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: os.mkfifo(folder / "pipe"),
        lambda folder: (folder / "extra.txt").write_bytes(b"extra"),
        lambda folder: folder.with_name(f"{folder.name}.sha256").unlink(),
        lambda folder: folder.with_name(f"{folder.name}.sha256").write_bytes(b"[" * 100_000),
    ],
)
def test_a_damaged_copy_is_fetched_again(
    address: str, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    copy = download(address, tmp_path)
    damage(copy)
    assert download(address, tmp_path) == copy
    assert (copy / "config.json").read_bytes() == b"{}" and not (copy / "extra.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [copy.name, f"{copy.name}.sha256"]


def test_a_folder_that_somebody_has_put_there_is_no_copy(address: str, tmp_path: Path) -> None:
    name = download(address, tmp_path / "elsewhere").name
    (tmp_path / "cache" / name).mkdir(parents=True)
    (tmp_path / "cache" / name / "config.json").write_bytes(b'{"auto_map": "evil"}')
    assert (download(address, tmp_path / "cache") / "config.json").read_bytes() == b"{}"


def test_copies_that_nobody_used_for_a_week_go_when_the_next_one_is_fetched(
    address: str, tmp_path: Path
) -> None:
    old = download(address, tmp_path)
    long_ago = time.time() - local_copy.KEPT_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    record = old.with_name(f"{old.name}.sha256")
    os.utime(record, (long_ago, long_ago))
    download(address, tmp_path)  # used again: it stays
    open_store(address).put("config.json", b"[]")
    new = download(address, tmp_path)
    assert old.exists() and new != old
    os.utime(old, (long_ago, long_ago))
    open_store(address).put("config.json", b"[1]")
    newest = download(address, tmp_path)
    assert not old.exists() and {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        new.name,
        newest.name,
    }


def test_the_folder_of_copies_is_its_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_copy.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = local_copy.own_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(StoreError, match="others may write there"):
        local_copy.own_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(StoreError, match="not ours alone"):
        local_copy.own_folder()
