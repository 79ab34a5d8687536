"""What tests share: an S3 server for all that want one (moto, with a fresh bucket a test), and logging as it was before."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker a core already

import components.shared.runtime  # noqa: F401 # before torch is loaded: it says how OpenMP's threads wait


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A command that a test calls in this process may set up logging for all of it, and so for the tests after it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a moto server, started once."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_uri(s3_server: str, new_bucket: Callable[[str, str, str], str]) -> str:
    """`s3://<fresh bucket>` on that server, with the AWS_* environment that leads to it."""
    return new_bucket(s3_server, "testing", "testing")


@pytest.fixture
def new_bucket(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], str]:
    """(endpoint, access key, secret key) → `s3://<fresh bucket>` there.

    The environment leads boto3 to this server, and away from whatever the machine has configured.
    """

    def make(endpoint: str, access_key: str, secret_key: str) -> str:
        from boto3.session import Session  # the default session would remember the first credentials

        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret_key)
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        name = f"forge-{uuid.uuid4().hex[:12]}"
        Session().client("s3", region_name="us-east-1").create_bucket(Bucket=name)
        return f"s3://{name}"

    return make
