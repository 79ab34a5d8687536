"""The stores that must all behave the same: a folder, moto, and Ceph where its programs are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract import ceph

S3_SERVERS = ["moto"] + (["radosgw"] if ceph.installed() else [])


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ceph.radosgw(tmp_path_factory.mktemp("ceph")) as endpoint:
        yield endpoint


@pytest.fixture(params=["folder", *S3_SERVERS])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path, new_bucket: Callable[..., str]) -> str:
    """An empty place in each kind of store."""
    if request.param == "folder":
        return str(tmp_path / "store")
    return _bucket(request, new_bucket) + "/some/prefix"


@pytest.fixture(params=S3_SERVERS)
def s3_bucket(request: pytest.FixtureRequest, new_bucket: Callable[..., str]) -> str:
    """`s3://<fresh bucket>` on each S3 server."""
    return _bucket(request, new_bucket)


def _bucket(request: pytest.FixtureRequest, new_bucket: Callable[..., str]) -> str:
    if request.param == "moto":
        return str(request.getfixturevalue("s3_uri"))
    return new_bucket(request.getfixturevalue("radosgw"), ceph.ACCESS_KEY, ceph.SECRET_KEY)
