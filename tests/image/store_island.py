"""A network namespace with nothing in it but an object store on its loopback: what a container can reach is this store."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

BUCKET = "mlpipeline"
MAKE_BUCKET = f"""
import boto3
boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="{BUCKET}")
"""


@dataclass(frozen=True)
class Island:
    """The namespace, by name, and the environment that leads to its store."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run something inside, with that environment."""
        inside = [
            "ip",
            "netns",
            "exec",
            self.name,
            "env",
            *(f"{key}={value}" for key, value in self.environment.items()),
        ]
        return subprocess.run([*inside, *command], capture_output=True, text=True)


@contextlib.contextmanager
def store_island(port: int = 9000) -> Iterator[Island]:
    """Make the namespace, start the store in it, and take both away at the end."""
    name = f"forge-{uuid.uuid4().hex[:8]}"
    island = Island(
        name,
        {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        },
    )
    _checked("ip", "netns", "add", name)
    try:
        _checked("ip", "netns", "exec", name, "ip", "link", "set", "lo", "up")
        server = subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                name,
                sys.executable,
                "-m",
                "moto.server",
                "-H",
                "127.0.0.1",
                "-p",
                str(port),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for_bucket(island, server)
            yield island
        finally:
            server.terminate()
            server.wait()
    finally:
        _checked("ip", "netns", "delete", name)


def _wait_for_bucket(island: Island, server: subprocess.Popen[bytes], patience: float = 120) -> None:
    end = time.monotonic() + patience
    while (made := island.run(sys.executable, "-c", MAKE_BUCKET)).returncode:
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the store did not start: {made.stderr.strip().splitlines()[-1:]}")
        time.sleep(0.5)


def _checked(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
