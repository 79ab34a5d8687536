"""The stores that must all behave the same: a folder, moto, and each S3 server that is installed on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.stores import ceph, s3_servers

INSTALLED = [name for name in ("minio", "versitygw") if s3_servers.program(name)]
INSTALLED += ["radosgw"] if ceph.installed() else []
"""Servers that check credentials. moto, which does not, is always there."""


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_servers.minio(tmp_path_factory.mktemp("minio")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_servers.versitygw(tmp_path_factory.mktemp("versitygw")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ceph.radosgw(tmp_path_factory.mktemp("ceph")) as endpoint:
        yield endpoint


ENCRYPTED = {"encrypted folder", "encrypted moto"}
"""The stores of ciphertext keep the same promises as those of plain bytes."""


@pytest.fixture(params=["folder", "moto", *INSTALLED, *sorted(ENCRYPTED)])
def store_uri(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    new_bucket: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """An empty place in each kind of store."""
    if request.param in ENCRYPTED:
        (tmp_path / "encryption.key").write_bytes(os.urandom(32))
        monkeypatch.setenv("FORGE_ENCRYPTION_KEY_FILE", str(tmp_path / "encryption.key"))
    if request.param == "folder":
        return str(tmp_path / "store")
    if request.param == "encrypted folder":
        return f"file://{tmp_path}/store"
    if request.param == "encrypted moto":
        return f"{request.getfixturevalue('s3_uri')}/some/prefix"
    return _bucket(request, new_bucket) + "/some/prefix"


@pytest.fixture(params=["moto", *INSTALLED])
def s3_bucket(request: pytest.FixtureRequest, new_bucket: Callable[..., str]) -> str:
    """`s3://<fresh bucket>` on each S3 server."""
    return _bucket(request, new_bucket)


@pytest.fixture(params=INSTALLED or [pytest.param("none", marks=pytest.mark.skip("moto accepts any secret"))])
def guarded_bucket(request: pytest.FixtureRequest, new_bucket: Callable[..., str]) -> str:
    """`s3://<fresh bucket>` on each S3 server that checks credentials."""
    return _bucket(request, new_bucket)


def _bucket(request: pytest.FixtureRequest, new_bucket: Callable[..., str]) -> str:
    if request.param == "moto":
        return str(request.getfixturevalue("s3_uri"))
    endpoint = request.getfixturevalue(request.param)
    return new_bucket(endpoint, s3_servers.ACCESS_KEY, s3_servers.SECRET_KEY)
