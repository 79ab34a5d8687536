"""What lies in an encrypted store, and what is refused there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.shared.runtime.errors import ConfigError, DamagedObject, StoreError
from components.shared.runtime.store.encryption import rotation
from components.shared.runtime.store.encryption.data_keys import is_key_object
from components.shared.runtime.store.encryption.encrypted import MAGIC, PREAMBLE, EncryptedStore
from components.shared.runtime.store.encryption.key_ring import configured
from components.shared.runtime.store.encryption.streaming import SEGMENT
from components.shared.runtime.store.folder import FolderStore

Open = Callable[..., EncryptedStore]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Opens the store in `store` with the keys of these names, the newest first; each is made when it is first named."""

    def open_with(*names: str, plain: str = "") -> EncryptedStore:
        for name in names:
            if not (tmp_path / name).exists():
                (tmp_path / name).write_bytes(os.urandom(32))
        files = os.pathsep.join(str(tmp_path / name) for name in names)
        ring = configured({"FORGE_ENCRYPTION_KEY_FILE": files, "FORGE_ENCRYPTION_PLAIN": plain})
        assert ring is not None
        return EncryptedStore(FolderStore(tmp_path / "store"), ring)

    return open_with


def key_objects(store: EncryptedStore) -> list[str]:
    return [entry.key for entry in store.inner.list() if is_key_object(entry.key)]


def test_no_plain_byte_lies_in_the_store_and_one_key_in_a_folder(opened: Open, tmp_path: Path) -> None:
    store, secret = opened("key"), b"weights that nobody may see"
    (tmp_path / "file").write_bytes(secret)
    store.put("model/a", secret)
    store.put("model/b", tmp_path / "file")
    assert store.put_if_absent("model/c", secret)
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(files) == 4 and not any(secret in path.read_bytes() for path in files)
    assert len(key_objects(store)) == 1
    assert [(entry.key, entry.bytes) for entry in store.list()] == [
        ("model/a", len(secret)),
        ("model/b", len(secret)),
        ("model/c", len(secret)),
    ]
    assert opened("key").get("model/b") == secret


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 3 * SEGMENT), length=st.integers(0, 2 * SEGMENT))
def test_any_part_can_be_read_by_itself(opened: Open, start: int, length: int) -> None:
    store = opened("key")
    plain = (b"0123456789abcdef" * (5 * SEGMENT // 32))[: 5 * SEGMENT // 2]
    if not store.exists("f/large"):
        store.put("f/large", plain)
    assert store.get_range("f/large", start, length) == plain[start : start + length]


def test_a_part_behind_an_end_that_was_cut_off_is_no_end(opened: Open, tmp_path: Path) -> None:
    store = opened("key")
    store.put("large", os.urandom(4 * SEGMENT))
    with (tmp_path / "store" / "large").open("r+b") as file:
        file.truncate(PREAMBLE + 2 * SEGMENT)
    assert len(store.get_range("large", SEGMENT, 10)) == 10
    for start, length in ((3 * SEGMENT, 10), (SEGMENT, 3 * SEGMENT)):
        with pytest.raises(DamagedObject):
            store.get_range("large", start, length)


def test_a_changed_byte_is_refused_by_every_way_of_reading(opened: Open, tmp_path: Path) -> None:
    store = opened("key")
    store.put("key", b"x" * 1000)
    path = tmp_path / "store" / "key"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    for read in (
        lambda: store.get("key"),
        lambda: store.sha256("key"),
        lambda: store.get_range("key", 0, 10),
        lambda: store.fetch("key", tmp_path / "fetched"),
    ):
        with pytest.raises(DamagedObject, match="not what was written"):
            read()
    assert not [path.name for path in tmp_path.iterdir() if "fetched" in path.name or "partial" in path.name]


def test_a_file_cannot_stand_for_another_of_its_folder(opened: Open, tmp_path: Path) -> None:
    store = opened("key")
    store.put("m/a", b"a")
    store.put("m/b", b"b")
    (tmp_path / "store/m/a").write_bytes((tmp_path / "store/m/b").read_bytes())
    with pytest.raises(DamagedObject):
        store.get("m/a")


def test_without_the_right_key_nothing_is_read_or_written_and_both_keys_are_named(opened: Open) -> None:
    opened("key").put("m/a", b"a")
    other = opened("other")
    for act in (lambda: other.get("m/a"), lambda: other.put("m/b", b"b")):
        with pytest.raises(
            StoreError, match=r"none of the keys at hand.*file:.*FORGE_ENCRYPTION_KEY_FILE"
        ) as refusal:
            act()
        assert not isinstance(refusal.value, DamagedObject), "a checkpoint would be passed over"


def test_a_deleted_or_changed_data_key_is_named(opened: Open, tmp_path: Path) -> None:
    opened("key").put("m/a", b"a")
    (place,) = key_objects(opened("key"))
    text = (tmp_path / "store" / place).read_bytes()
    (tmp_path / "store" / place).write_bytes(text.replace(b'"wrapped": "', b'"wrapped": "A'))
    with pytest.raises(DamagedObject, match="wrapped data key is damaged"):
        opened("key").get("m/a")
    (tmp_path / "store" / place).unlink()
    with pytest.raises(DamagedObject, match="data key of an encrypted object is gone"):
        opened("key").get("m/a")


def test_a_plain_object_is_refused_until_it_is_allowed_or_encrypted(opened: Open, tmp_path: Path) -> None:
    FolderStore(tmp_path / "store").put("m/old", b"plain" * 100)
    store = opened("key")
    with pytest.raises(StoreError, match=r"not encrypted.*forge encryption encrypt"):
        store.get("m/old")
    with pytest.raises(StoreError, match=r"holds objects that are not encrypted.*forge encryption encrypt"):
        store.put("m/new", b"")
    mixed = opened("key", plain="read")
    assert mixed.get("m/old") == b"plain" * 100 and mixed.get_range("m/old", 5, 5) == b"plain"
    assert mixed.sha256("m/old") == FolderStore(tmp_path / "store").sha256("m/old")
    assert rotation.status(store).plain == ["m/old"]
    assert rotation.encrypt_plain(store) == 1 and rotation.encrypt_plain(store) == 0
    assert store.get("m/old") == b"plain" * 100 and [entry.bytes for entry in store.list()] == [500]
    assert rotation.status(store).encrypted == 1


def test_a_plain_object_in_an_encrypted_folder_is_refused(opened: Open, tmp_path: Path) -> None:
    store = opened("key")
    store.put("m/a", b"a")
    FolderStore(tmp_path / "store").put("m/forged", b"not ours")
    with pytest.raises(StoreError, match="not encrypted"):
        store.get("m/forged")


def test_rotation_rewrites_the_data_keys_alone_and_then_the_old_key_may_go(
    opened: Open, tmp_path: Path
) -> None:
    old = opened("old")
    for folder in ("a", "b", "b/c"):
        old.put(f"{folder}/file", folder.encode())
    before = {entry.key: (tmp_path / "store" / entry.key).read_bytes() for entry in old.inner.list()}
    both = opened("new", "old")
    both.put("d/file", b"d")
    assert both.get("b/c/file") == b"b/c"
    assert rotation.rotate(both) == (3, 1) and rotation.rotate(both) == (0, 4)
    after = {key: (tmp_path / "store" / key).read_bytes() for key in before}
    assert {key for key in before if before[key] != after[key]} == {
        key for key in before if is_key_object(key)
    }
    new = opened("new")
    assert [new.get(f"{folder}/file") for folder in ("a", "b", "b/c")] == [b"a", b"b", b"b/c"]
    assert rotation.status(new).wrapped_by == {new.ring.newest.name: 4}
    with pytest.raises(StoreError, match="none of the keys"):
        opened("old").get("a/file")


def test_the_data_key_goes_with_its_folders_last_object_and_not_before(opened: Open) -> None:
    store = opened("key")
    store.put("m/a", b"a")
    store.put("m/deeper/b", b"b")
    store.delete("m/deeper/b")
    assert [name.rpartition("/")[0] for name in key_objects(store)] == ["m"]
    store.delete("m/a")
    assert store.inner.list() == []


def test_whoever_still_writes_by_a_deleted_data_key_brings_it_back(opened: Open) -> None:
    writer, other = opened("key"), opened("key")
    writer.put("m/a", b"a")
    other.delete("m/a")
    writer.put("m/b", b"b")
    assert opened("key").get("m/b") == b"b"


def test_the_name_of_a_data_key_is_no_name_for_an_object(opened: Open) -> None:
    with pytest.raises(StoreError, match="not a key"):
        opened("key").put("m/.forge-key-00", b"")


def test_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"no encryption key.*5 bytes.*head -c 32"):
        configured({"FORGE_ENCRYPTION_KEY_FILE": str(tmp_path / "short")})
    with pytest.raises(ConfigError, match="cannot be read"):
        configured({"FORGE_ENCRYPTION_KEY_FILE": str(tmp_path / "none")})
    with pytest.raises(ConfigError, match="FORGE_ENCRYPTION_PLAIN"):
        configured({"FORGE_ENCRYPTION_PLAIN": "maybe"})
    assert configured({}) is None


def test_equal_content_is_different_ciphertext(opened: Open, tmp_path: Path) -> None:
    store = opened("key")
    store.put("m/a", b"same")
    first = (tmp_path / "store/m/a").read_bytes()
    store.put("m/a", b"same")
    second = (tmp_path / "store/m/a").read_bytes()
    assert first != second and first.startswith(MAGIC) and second.startswith(MAGIC)
