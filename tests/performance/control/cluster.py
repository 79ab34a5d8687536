"""Replicas of the API as processes of their own, on one Postgres (durable, as it is by default) and one Redis."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.control.auth.principals import KEY_FILE
from pipelines.control.settings import ControlSettings
from tests.control import servers

TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 120.0


class Replica:
    """`forge control --role api`."""

    def __init__(self, number: int, environment: dict[str, str], folder: Path) -> None:
        self.port = servers.free_port()
        self.environment = environment
        self.log = folder / f"replica-{number}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.ended_cpu = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.cli", "control", "--role", "api", "--port", str(self.port)],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def wait(self) -> None:
        """Until it answers."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer,
            ):
                if answer.status == 200:
                    return
            if self.process is None or self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"a replica does not start:\n{self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def cpu(self) -> float:
        """Seconds of processor that it has taken."""
        assert self.process
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self) -> float:
        """MB that it has in memory."""
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@dataclass
class Cluster:
    """What runs."""

    postgres: servers.Postgres
    redis: servers.Redis | None
    folder: Path
    replicas: list[Replica] = field(default_factory=list)

    @property
    def settings(self) -> ControlSettings:
        """Of this process, which writes the events."""
        return ControlSettings(
            runs=self.folder / "runs",
            database_url=self.postgres.url("forge"),
            redis_url=self.redis.url if self.redis else "",
        )

    @property
    def headers(self) -> dict[str, str]:
        """By which an admin is known."""
        return {"X-API-Key": (self.settings.folder / KEY_FILE).read_text().strip()}


@contextlib.contextmanager
def cluster(replicas: int, redis: bool = True) -> Iterator[Cluster]:
    """So many replicas, answering."""
    programs, program = servers.postgres_programs(), servers.redis_program()
    if programs is None or (redis and program is None):
        sys.exit("this needs Postgres and Redis: apt-get install postgresql redis-server")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forge-load-")))
        postgres = stack.enter_context(servers.postgres_server(programs, durable=True))
        postgres.sql("CREATE DATABASE forge")
        hints = stack.enter_context(servers.redis_server(program)) if redis and program else None
        made = Cluster(postgres, hints, folder)
        environment = {
            **os.environ,
            "FORGE_RUNS": str(folder / "runs"),
            "DATABASE_URL": made.settings.database_url,
            "REDIS_URL": made.settings.redis_url,
            "JWT_SECRET": "0123456789abcdef" * 4,
            "FORGE_RATE_LIMIT": "100000000",
        }
        made.replicas = [Replica(number, environment, folder) for number in range(replicas)]
        try:
            for replica in made.replicas:
                replica.start()
                replica.wait()
            yield made
        finally:
            for replica in made.replicas:
                if replica.process and replica.process.poll() is None:
                    replica.kill()
