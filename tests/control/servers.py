"""Real servers for tests and measurements, on this machine's loopback: Postgres and Redis, each in a folder that goes."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
START_SECONDS = 60.0
MEMORY_BYTES = 4 << 30


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def postgres_programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where Postgres is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for pattern in POSTGRES_FOLDERS:
        for folder in sorted(Path("/").glob(pattern[1:]), reverse=True):
            if (folder / "initdb").exists():
                return folder
    return None


def redis_program() -> str | None:
    """The server's program; None where Redis is not installed."""
    return shutil.which("redis-server")


class Postgres:
    """A server that can be killed and started again.

    :param folder: of its files; the user that it runs as must be able to reach it.
    :param durable: a commit is on the disk, as it is by default; else nothing is, which makes tests quick.
    """

    def __init__(self, programs: Path, folder: Path, durable: bool = False) -> None:
        self.durable = durable
        self.programs = programs
        self.folder = folder
        self.port = free_port()
        self.user = "postgres"
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as:
            who = pwd.getpwnam("postgres")
            os.chown(folder, who.pw_uid, who.pw_gid)
        self._run("initdb", "-D", self.data, "-A", "trust", "-N", "--locale=C", "-E", "UTF8", "-U", self.user)

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def url(self, name: str) -> str:
        """The address of the database `name`."""
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        options = (
            f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder} "
            "-c max_connections=200 -c shared_buffers=64MB "
        )
        if not self.durable:
            options += (
                "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c autovacuum=off "
                "-c max_wal_size=2GB"
            )
        log = str(self.folder / "log")
        self._run(
            "pg_ctl", "-w", "-t", str(int(START_SECONDS)), "-D", self.data, "-l", log, "-o", options, "start"
        )

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `immediate` as fast as it goes, the newest commits may be lost; `fast` in good order."""
        self._run("pg_ctl", "-w", "-D", self.data, "-m", mode, "stop")

    def kill(self) -> None:
        """End it as a crash of the machine does, and wait until it is gone."""
        process = int((Path(self.data) / "postmaster.pid").read_text().split()[0])
        os.kill(process, signal.SIGKILL)
        while _lives(process):
            time.sleep(0.05)
        time.sleep(0.5)  # its children notice, and let go of the shared memory

    def sql(self, statement: str, database: str = "postgres") -> None:
        self._run(
            "psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user,
            "-d", database, "-c", statement,
        )  # fmt: skip

    def _run(self, program: str, *arguments: str) -> None:
        with tempfile.TemporaryFile() as said:
            # Not a pipe: the server that pg_ctl leaves behind would hold it open.
            done = subprocess.run(
                [*self._as, str(self.programs / program), *arguments],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd="/", check=False,
            )  # fmt: skip
            if done.returncode:
                said.seek(0)
                raise RuntimeError(f"{program}: {said.read().decode(errors='replace')[-2000:]}")


class Redis:
    """A server that can be killed and started again on its port."""

    def __init__(self, program: str, folder: Path, tls: Sequence[str] = ()) -> None:
        self.program = program
        self.folder = folder
        self.tls = tls
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis{'s' * bool(self.tls)}://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.program, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.folder),
             *(["--port", "0", "--tls-port", str(self.port), *self.tls] if self.tls else ["--port", str(self.port)])],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError("redis-server does not start")
            time.sleep(0.02)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def postgres_server(
    programs: Path, durable: bool = False, prepare: Callable[[Path], None] | None = None
) -> Iterator[Postgres]:
    """A running Postgres.

    :param prepare: what is done to the folder of its data before it starts.
    """
    with _folder(memory=not durable) as folder:
        server = Postgres(programs, folder, durable)
        if prepare:
            prepare(Path(server.data))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def redis_server(program: str, tls: Sequence[str] = ()) -> Iterator[Redis]:
    """A running Redis that keeps nothing.

    :param tls: its options for TLS, which it then speaks alone.
    """
    with _folder(memory=False) as folder:
        server = Redis(program, folder, tls)
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def _folder(memory: bool) -> Iterator[Path]:
    """A short path that other users can reach: pytest's folders are too deep for a socket, and closed to others.

    :param memory: rather there, where there is room: what is thrown away need not go to a disk.
    """
    shared = Path("/dev/shm")
    room = memory and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > MEMORY_BYTES
    with tempfile.TemporaryDirectory(
        prefix="forge-", dir=shared if room else None, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
