"""Keys that are a server's: a key of AWS KMS that wraps data keys, and S3's own encryption as a setting. On moto."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from boto3.session import Session

from components.shared.runtime.errors import ConfigError, StoreError
from components.shared.runtime.store.encryption import rotation
from components.shared.runtime.store.encryption.encrypted import EncryptedStore
from components.shared.runtime.store.s3_client import server_side_encryption
from components.shared.runtime.store.uri import open_store


@pytest.fixture
def kms(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return Session().client("kms")


def encrypted(uri: str) -> EncryptedStore:
    store = open_store(uri)
    assert isinstance(store, EncryptedStore)
    return store


def test_a_key_of_kms_wraps_and_opens_and_another_does_not(
    kms: Any, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other = (kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(2))
    monkeypatch.setenv("FORGE_ENCRYPTION_KMS_KEY_ID", key)
    encrypted(s3_uri).put("m/a", b"weights")
    assert encrypted(s3_uri).get("m/a") == b"weights"
    assert b"weights" not in encrypted(s3_uri).inner.get("m/a")
    monkeypatch.setenv("FORGE_ENCRYPTION_KMS_KEY_ID", other)
    with pytest.raises(StoreError, match=f"none of the keys at hand.*kms:{key}"):
        encrypted(s3_uri).get("m/a")
    monkeypatch.setenv("FORGE_ENCRYPTION_KMS_KEY_ID", "no-such-key")
    with pytest.raises(StoreError, match="key in KMS cannot be used"):
        encrypted(s3_uri).put("n/a", b"")


def test_from_a_file_to_kms_and_to_the_next_key_of_kms(
    kms: Any, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(os.urandom(32))
    monkeypatch.setenv("FORGE_ENCRYPTION_KEY_FILE", str(tmp_path / "key"))
    encrypted(s3_uri).put("m/a", b"weights")
    first, second = (kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(2))
    monkeypatch.setenv("FORGE_ENCRYPTION_KMS_KEY_ID", first)
    assert rotation.rotate(encrypted(s3_uri)) == (1, 0)
    monkeypatch.delenv("FORGE_ENCRYPTION_KEY_FILE")
    assert encrypted(s3_uri).get("m/a") == b"weights"
    monkeypatch.setenv("FORGE_ENCRYPTION_KMS_KEY_ID", f"{second}, {first}")
    assert rotation.rotate(encrypted(s3_uri)) == (1, 0)
    monkeypatch.setenv("FORGE_ENCRYPTION_KMS_KEY_ID", second)
    assert encrypted(s3_uri).get("m/a") == b"weights"


def test_the_servers_own_encryption_is_asked_for_with_every_write(
    kms: Any, s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    monkeypatch.setenv("FORGE_S3_SSE", "aws:kms")
    monkeypatch.setenv("FORGE_S3_SSE_KMS_KEY_ID", key)
    store = open_store(s3_uri)
    (tmp_path / "file").write_bytes(b"file")
    store.put("bytes", b"bytes")
    store.put("file", tmp_path / "file")
    assert store.put_if_absent("absent", b"absent")
    client = Session().client("s3", region_name="us-east-1")
    for name in ("bytes", "file", "absent"):
        head = client.head_object(Bucket=s3_uri.removeprefix("s3://"), Key=name)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"].rpartition("/")[2]) == ("aws:kms", key)
        assert store.get(name) == name.encode()


def test_kinds_of_encryption_that_s3_has_not_are_refused() -> None:
    assert server_side_encryption({}) == {}
    assert server_side_encryption({"FORGE_S3_SSE": "AES256"}) == {"ServerSideEncryption": "AES256"}
    with pytest.raises(ConfigError, match="FORGE_S3_SSE"):
        server_side_encryption({"FORGE_S3_SSE": "SSE-C"})
    with pytest.raises(ConfigError, match="not by KMS"):
        server_side_encryption({"FORGE_S3_SSE": "AES256", "FORGE_S3_SSE_KMS_KEY_ID": "key"})
