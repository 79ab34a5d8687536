"""S3 servers of one program each on this machine: MinIO, which the project's users run, and versitygw.

Both check credentials and checksums, and refuse to overwrite where they are asked to. They are tools of the tests (MinIO
is AGPL) and no part of what is shipped; `.ci/run` names the versions and how they are installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "forge", "a-secret-that-is-checked"


def program(name: str) -> str | None:
    """Where a program lies: on the PATH, or where `go install` puts it."""
    go = os.environ.get("GOBIN") or Path(os.environ.get("GOPATH") or Path.home() / "go", "bin")
    return shutil.which(name) or shutil.which(name, path=str(go))


@contextlib.contextmanager
def minio(root: Path) -> Iterator[str]:
    """Run MinIO below `root` and yield its address."""
    port = free_port()
    (root / "data").mkdir()
    address = ["--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{free_port()}"]
    quiet = {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "HOME": str(root)}
    secrets = {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY}
    command = [str(program("minio")), "server", "--quiet", *address, str(root / "data")]
    ready = (
        f"http://127.0.0.1:{port}/minio/health/cluster"  # before that it answers that it is not initialised
    )
    with _running(command, quiet | secrets, root / "output.log", ready):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def versitygw(root: Path) -> Iterator[str]:
    """Run versitygw over a folder below `root` and yield its address.

    With its metadata in files of their own: not every file system of a temporary folder has extended attributes.
    """
    port = free_port()
    for folder in ("data", "metadata"):
        (root / folder).mkdir()
    command = [str(program("versitygw")), "--quiet", "--port", f"127.0.0.1:{port}", "posix"]
    command += ["--sidecar", str(root / "metadata"), str(root / "data")]
    secrets = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    address = f"http://127.0.0.1:{port}"
    with _running(command, secrets, root / "output.log", address):
        yield address


@contextlib.contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path, ready: str) -> Iterator[None]:
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=output)
        try:
            wait_for(ready, [server])
            yield
        finally:
            server.kill()
            server.wait()


def wait_for(address: str, daemons: Sequence[subprocess.Popen[bytes]], seconds: float = 90) -> None:
    """Wait until `address` answers; that it refuses whoever does not say who he is, is an answer.

    :raises RuntimeError: one of the daemons ended.
    :raises TimeoutError: it does not answer.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for daemon in daemons:
            if daemon.poll() is not None:
                raise RuntimeError(f"{daemon.args} ended with {daemon.returncode}")
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass  # it does not listen yet
        time.sleep(0.2)
    raise TimeoutError(f"{address} did not answer within {seconds} s")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
