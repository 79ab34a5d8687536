"""What every store promises, held against a folder, moto and (where installed) MinIO, versitygw and Ceph's radosgw."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import minio
import pytest
from boto3.session import Session

from components.shared.runtime.errors import MissingKey, StoreError
from components.shared.runtime.store.encryption.data_keys import is_key_object
from components.shared.runtime.store.encryption.encrypted import EncryptedStore
from components.shared.runtime.store.interface import PARTIAL, Store
from components.shared.runtime.store.local_copy import download
from components.shared.runtime.store.s3 import S3Store
from components.shared.runtime.store.uri import open_store
from tests.contract.stores.proxy import Proxy

PART = 5 * 2**20  # the smallest part that S3 allows


@pytest.fixture
def store(store_uri: str) -> Store:
    return open_store(store_uri, multipart_bytes=PART)


@pytest.fixture
def proxy(s3_server: str, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before moto; the environment leads to the proxy."""
    with Proxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
        yield proxy


def peer() -> minio.Minio:
    """MinIO's own client, which shares no code with boto3, at the same server."""
    return minio.Minio(
        urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc,
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
        secure=False,
    )


def everything(store: Store) -> list[str]:
    """All that lies in a store, also what its own listing hides."""
    if isinstance(store, S3Store):
        return [
            str(item.object_name).removeprefix(store.prefix)
            for item in peer().list_objects(store.bucket, recursive=True)
        ]
    if isinstance(store, EncryptedStore):
        return [name for name in everything(store.inner) if not is_key_object(name)]
    return [path.name for path in Path(store.uri.removeprefix("file://")).rglob("*")]


def test_what_was_put_is_got_and_the_last_put_counts(store: Store, tmp_path: Path) -> None:
    store.put("a/b.txt", b"first")
    store.put("a/b.txt", b"second")
    (tmp_path / "file").write_bytes(b"from a file")
    store.put("a/c.txt", tmp_path / "file")
    store.put("empty", b"")
    assert store.get("a/b.txt") == b"second"
    assert store.get("a/c.txt") == b"from a file"
    assert store.get("empty") == b""


def test_listing_is_sorted_and_by_prefix(store: Store) -> None:
    assert store.list() == []
    for key in ("b/2", "b/10", "a", "bc"):
        store.put(key, key.encode())
    assert [(entry.key, entry.bytes) for entry in store.list()] == [
        ("a", 1),
        ("b/10", 4),
        ("b/2", 3),
        ("bc", 2),
    ]
    assert [entry.key for entry in store.list("b/")] == ["b/10", "b/2"]
    assert [entry.key for entry in store.list("b/1")] == ["b/10"]
    assert store.list("nothing/here") == []


def test_a_listing_is_whole_beyond_one_page_of_s3(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    store = open_store(s3_uri)
    for index in range(25):
        store.put(f"{index:02}", b"")
    assert [entry.key for entry in store.list()] == [f"{index:02}" for index in range(25)]


def test_a_deleted_key_is_gone_and_deleting_it_again_is_no_error(store: Store) -> None:
    store.put("deep/down/key", b"x")
    assert store.exists("deep/down/key") and not store.exists("deep/down")
    store.delete("deep/down/key")
    store.delete("deep/down/key")
    assert not store.exists("deep/down/key") and store.list() == []
    with pytest.raises(MissingKey, match="deep/down/key"):
        store.get("deep/down/key")


def test_a_missing_key_cannot_be_fetched_and_leaves_no_file(store: Store, tmp_path: Path) -> None:
    with pytest.raises(MissingKey):
        store.fetch("missing", tmp_path / "here" / "file")
    with pytest.raises(MissingKey):
        store.download("missing", tmp_path / "here")
    assert not list((tmp_path / "here").glob("*"))


@pytest.mark.parametrize("key", ["../up", "/root", "a/../../b", "a//b", "", ".", "a\\b", "line\nbreak"])
def test_a_key_cannot_leave_its_store(store: Store, key: str) -> None:
    for act in (store.get, store.exists, store.delete, lambda key: store.put(key, b"")):
        with pytest.raises(StoreError, match="not a key"):
            act(key)


def test_of_sixteen_who_put_if_absent_one_wins(store: Store) -> None:
    start = threading.Barrier(16)

    def race(index: int) -> bool:
        start.wait()
        return store.put_if_absent("claim", b"%d" % index)

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(race, range(16)))
    assert won.count(True) == 1
    assert store.get("claim") == b"%d" % won.index(True)
    assert not store.put_if_absent("claim", b"late")


def test_a_folder_comes_back_byte_for_byte_with_files_in_parts(store: Store, tmp_path: Path) -> None:
    files = {"small": b"", "deep/er/middle": os.urandom(70_000), "large": os.urandom(2 * PART + 12_345)}
    for name, content in files.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(content)
    store.upload(tmp_path / "there", "models/one")
    store.upload(tmp_path / "there", "models/one-and-a-half", names=["small"])
    assert [entry.key for entry in store.list("models/one/")] == sorted(
        f"models/one/{name}" for name in files
    )
    if isinstance(store, S3Store):
        large = next(entry for entry in store.list() if entry.key.endswith("large"))
        assert large.tag.strip('"').endswith("-3"), "three parts"
    store.download("models/one", tmp_path / "back")
    assert {path.relative_to(tmp_path / "back").as_posix(): path.read_bytes()
            for path in (tmp_path / "back").rglob("*") if path.is_file()} == files  # fmt: skip
    with pytest.raises(StoreError, match="no such folder"):
        store.upload(tmp_path / "nowhere")


def test_a_put_that_fails_leaves_the_old_content(store: Store, tmp_path: Path) -> None:
    store.put("key", b"old")
    with pytest.raises(StoreError):
        store.put("key", tmp_path / "no such file")
    assert store.get("key") == b"old"
    assert [entry.key for entry in store.list()] == ["key"]


def test_an_honest_store_passes_the_probe_which_leaves_nothing(store: Store) -> None:
    store.put("already-there", b"x")
    store.probe()
    assert everything(store) == ["already-there"]


def test_a_store_that_overwrites_is_refused_by_the_probe(proxy: Proxy, s3_uri: str) -> None:
    proxy.forget = {"if-none-match"}
    store = open_store(s3_uri)
    with pytest.raises(StoreError, match="overwrites") as refusal:
        store.probe()
    assert s3_uri in str(refusal.value) and "What to do" in str(refusal.value)
    assert everything(store) == []


def test_a_busy_store_is_asked_again(proxy: Proxy, s3_uri: str) -> None:
    store = open_store(s3_uri)
    proxy.refuse = 2
    store.put("key", b"value")
    assert proxy.puts == 3 and store.get("key") == b"value"


def test_a_server_without_checksum_headers_is_written_without_them_and_that_is_said_once(
    proxy: Proxy, s3_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.old = "x-amz-checksum"
    store = open_store(s3_uri, multipart_bytes=PART)
    (tmp_path / "large").write_bytes(b"large" * (PART // 4))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: store.put(str(number), b"small"), range(4)))
    store.put("large", tmp_path / "large")
    assert store.put_if_absent("lock", b"first") and not store.put_if_absent("lock", b"second")
    assert store.get("0") == b"small" and store.sha256("large") == _sha256(b"large" * (PART // 4))
    assert capsys.readouterr().err.count("AWS_REQUEST_CHECKSUM_CALCULATION=when_required") == 1


def test_a_server_without_conditional_writes_is_still_refused(proxy: Proxy, s3_uri: str) -> None:
    proxy.old = "if-none-match"
    with pytest.raises(StoreError, match="If-None-Match"):
        open_store(s3_uri).put_if_absent("lock", b"first")


@pytest.mark.parametrize("status", [301, 302, 307, 400])
def test_a_server_that_sends_us_elsewhere_or_nowhere_is_asked_once_and_the_region_is_named(
    proxy: Proxy, s3_uri: str, status: int
) -> None:
    proxy.away = status
    with pytest.raises(StoreError, match="AWS_REGION"):
        open_store(s3_uri)
    assert proxy.asked == 1


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_the_sha256_of_what_is_stored_is_of_what_is_there(store: Store) -> None:
    store.put("key", b"value")
    assert store.sha256("key") == _sha256(b"value")
    if isinstance(store, S3Store):
        metadata = {"sha256": _sha256(b"value")}
        store.client.put_object(
            Bucket=store.bucket, Key=f"{store.prefix}key", Body=b"other", Metadata=metadata
        )
        assert store.sha256("key") == _sha256(b"other")
    with pytest.raises(MissingKey):
        store.sha256("missing")


def test_a_part_is_what_lies_there_and_ends_where_the_object_ends(store: Store) -> None:
    content = os.urandom(70_000)
    store.put("deep/key", content)
    store.put("empty", b"")
    for start, length in (
        (0, 1),
        (0, 70_000),
        (69_990, 100),
        (70_000, 5),
        (90_000, 5),
        (123, 40_000),
        (5, 0),
    ):
        assert store.get_range("deep/key", start, length) == content[start : start + length]
    assert store.get_range("empty", 0, 10) == b""
    with pytest.raises(MissingKey):
        store.get_range("missing", 0, 10)


def test_a_winner_whose_answer_is_lost_still_learns_that_it_won(proxy: Proxy, s3_uri: str) -> None:
    store = open_store(s3_uri)
    proxy.lose = 1
    assert store.put_if_absent("claim", b"mine")
    assert proxy.puts == 2
    proxy.lose = 1
    assert not store.put_if_absent("claim", b"theirs")
    assert store.get("claim") == b"mine"


def test_a_garbled_answer_is_asked_for_again_and_never_returned(
    proxy: Proxy, s3_uri: str, tmp_path: Path
) -> None:
    store = open_store(s3_uri)
    store.put("key", b"value" * 1000)
    proxy.garble = 1
    assert store.get("key") == b"value" * 1000
    proxy.garble = 1
    store.fetch("key", tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == b"value" * 1000
    proxy.garble = 1000
    with pytest.raises(StoreError, match="does not arrive"):
        store.get("key")
    with pytest.raises(StoreError, match="does not arrive"):
        store.fetch("key", tmp_path / "garbled")
    assert [path.name for path in tmp_path.iterdir() if "garbled" in path.name or PARTIAL in path.name] == []


def test_a_login_page_in_place_of_an_object_is_refused(proxy: Proxy, s3_uri: str, tmp_path: Path) -> None:
    store = open_store(s3_uri)
    store.put("key", b"value")
    proxy.fault, proxy.times = "login page", 1000
    with pytest.raises(StoreError, match="does not arrive"):
        store.get("key")
    with pytest.raises(StoreError):
        store.fetch("key", tmp_path / "key")
    assert not (tmp_path / "key").exists()


def test_an_object_changed_behind_its_checksum_is_refused(s3_bucket: str) -> None:
    store = open_store(s3_bucket)
    digest = hashlib.sha256(b"what was meant").hexdigest()
    Session().client("s3", region_name="us-east-1").put_object(
        Bucket=s3_bucket.removeprefix("s3://"), Key="key", Body=b"what is there", Metadata={"sha256": digest}
    )
    with pytest.raises(StoreError, match="does not arrive"):
        store.get("key")


def test_minios_client_reads_what_we_write_and_we_read_what_it_writes(s3_bucket: str, tmp_path: Path) -> None:
    bucket, client = s3_bucket.removeprefix("s3://"), peer()
    store = open_store(f"{s3_bucket}/below", multipart_bytes=PART)
    for name, content in {"small": b"s", "large": os.urandom(PART + 1)}.items():
        (tmp_path / name).write_bytes(content)
        store.put(f"ours/{name}", tmp_path / name)
        with client.get_object(bucket, f"below/ours/{name}") as answer:
            assert answer.read() == content
        kept = client.stat_object(bucket, f"below/ours/{name}")
        assert kept.size == len(content) and kept.metadata is not None
        assert kept.metadata["x-amz-meta-sha256"] == hashlib.sha256(content).hexdigest()
        client.put_object(bucket, f"below/theirs/{name}", BytesIO(content), len(content), part_size=PART)
        assert store.get(f"theirs/{name}") == content
    listed = {item.object_name: item.size for item in client.list_objects(bucket, recursive=True)}
    assert listed == {f"below/{entry.key}": entry.bytes for entry in store.list()} and len(listed) == 4
    store.download("theirs", tmp_path / "back")
    assert (tmp_path / "back" / "large").read_bytes() == (tmp_path / "large").read_bytes()


def test_a_key_that_would_leave_the_folder_is_not_downloaded(s3_bucket: str, tmp_path: Path) -> None:
    Session().client("s3", region_name="us-east-1").put_object(
        Bucket=s3_bucket.removeprefix("s3://"), Key="model/C:\\evil", Body=b""
    )
    with pytest.raises(StoreError, match="outside its folder"):
        open_store(s3_bucket).download("model", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_place_becomes_a_local_folder_once_for_each_content(store_uri: str, tmp_path: Path) -> None:
    store = open_store(store_uri)
    store.put("config.json", b"{}")
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: download(store_uri, tmp_path / "cache"), range(4))
    assert others == [first] * 3
    assert (first / "config.json").read_bytes() == b"{}"
    if "://" in store_uri:
        inode = first.stat().st_ino
        assert download(store_uri, tmp_path / "cache") == first and first.stat().st_ino == inode
        store.put("config.json", b"[]")
        second = download(store_uri, tmp_path / "cache")
        assert second != first and (second / "config.json").read_bytes() == b"[]"
    else:
        assert first == Path(store_uri)
    with pytest.raises(StoreError):
        download(f"{store_uri}/nothing/here", tmp_path / "cache")


def test_a_write_in_progress_in_a_folder_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / f"{PARTIAL}of a writer that was killed").write_bytes(b"half")
    assert open_store(str(tmp_path)).list() == []


def test_an_unknown_scheme_is_refused_with_what_to_do() -> None:
    with pytest.raises(StoreError, match=r"gs://.*What to do: give s3://"):
        open_store("gs://bucket/key")


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="a file, not a folder"):
        open_store(str(tmp_path / "file"))


def test_a_missing_bucket_is_named(s3_bucket: str) -> None:
    with pytest.raises(StoreError, match=r"bucket does not exist.*s3://no-such-bucket.*make the bucket"):
        open_store("s3://no-such-bucket/x")


def test_missing_credentials_are_named(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=r"no credentials.*AWS_ACCESS_KEY_ID"):
        open_store(s3_bucket)


def test_a_wrong_secret_is_told_from_a_missing_bucket(
    guarded_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match=r"refuses.*AWS_SECRET_ACCESS_KEY"):
        open_store(guarded_bucket)


def test_an_endpoint_that_does_not_answer_is_named(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match=r"does not answer.*127\.0\.0\.1:1.*AWS_ENDPOINT_URL"):
        open_store(s3_uri)
