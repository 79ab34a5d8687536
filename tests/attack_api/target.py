"""What is attacked: real servers, each a process, on one database; with principals, keys, runs and models in it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from pipelines.control.auth import keys, principals, sessions
from pipelines.control.settings import ControlSettings
from pipelines.control.store.database import Database
from pipelines.control.store.tables import model, run
from tests.control import servers

ROOT = Path(__file__).resolve().parents[2]
JWT_SECRET = "canary-of-the-signing-secret-0123456789"
PLACE = "s3://forge/runs"
DIGEST = "ab" * 32
CANARIES = {
    "JWT_SECRET": JWT_SECRET,
    "FORGE_WEBHOOK_SECRET": "canary-of-the-webhook-secret-0123456789",
    "AWS_SECRET_ACCESS_KEY": "canary-of-the-store-0123456789",
    "AWS_ACCESS_KEY_ID": "canary-of-the-stores-user",
}


class Replica:
    """A process that serves, and everything it says."""

    def __init__(self, runs: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pipelines.cli",
                "control",
                "--role",
                "api",
                "--port",
                "0",
                "--runs",
                str(runs),
            ],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.said: list[str] = []
        self.url = ""
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._ready.wait(60) or not self.url:
            raise RuntimeError("the server does not start:\n" + "".join(self.said))

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if " answers at " in line:
                self.url = line.rpartition(" ")[2].strip()
                self._ready.set()
        self._ready.set()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def memory(self) -> int:
        """Bytes that it holds now."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()


@dataclass
class Target:
    """What is attacked.

    :param replica: the server; its limit of requests is out of the way.
    :param limited: two more on the same database, with the limit of 100 a minute, which Redis counts where it is there.
    :param keys: a key of each kind of principal: viewer, operator, admin, run, other run, revoked, expired, scoped, …
    """

    folder: Path
    replica: Replica
    limited: list[Replica]
    redis: bool
    database: str
    keys: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)

    def http(self, key: str = "", *, replica: Replica | None = None, **headers: str) -> httpx2.Client:
        """A client of the server, with the key of a principal; every answer is kept for the search for secrets."""
        given = {"X-API-Key": self.keys.get(key, key)} if key else {}
        client = httpx2.Client(
            base_url=(replica or self.replica).url, headers=given | headers, timeout=60, verify=False
        )

        def keep(answer: httpx2.Response) -> None:
            if "text/event-stream" not in answer.headers.get("content-type", ""):
                answer.read()
                self.answers.append(f"{answer.headers}\n{answer.text}")

        client.event_hooks = {"response": [keep]}
        return client

    def in_database(self, work: Callable[[AsyncConnection], Any]) -> Any:
        """Do something in the database, past the server."""

        async def doing() -> Any:
            database = Database(self.database)
            try:
                async with database.write() as connection:
                    return await work(connection)
            finally:
                await database.close()

        return asyncio.run(doing())

    def link(self, owner: str) -> str:
        """A one-time link of a principal."""
        made: str = self.in_database(lambda connection: sessions.make_link(connection, self.ids[owner]))
        return made

    def session(self, owner: str) -> str:
        """The refresh token of a new session of a principal."""

        async def beginning() -> str:
            database = Database(self.database)
            try:
                return (await sessions.begin(database, link)).refresh
            finally:
                await database.close()

        link = self.link(owner)
        return asyncio.run(beginning())


@contextlib.contextmanager
def standing(folder: Path) -> Iterator[Target]:
    """The servers, started, their database filled."""
    with contextlib.ExitStack() as stack:
        runs = folder / "runs"
        runs.mkdir()
        (folder / "store").mkdir()
        database = f"sqlite:///{folder}/control.db"
        environment = CANARIES | {
            "DATABASE_URL": database,
            "FORGE_STORE": str(folder / "store"),
            "FORGE_PLACES": PLACE,
            "FORGE_RATE_LIMIT": "1000000",
            "PYTHONPATH": str(ROOT),
            "FORGE_ORIGINS": "http://localhost:3000",
        }
        replica = Replica(runs, environment)
        stack.callback(replica.stop)
        program = servers.redis_program()
        if program:
            environment["REDIS_URL"] = stack.enter_context(servers.redis_server(program)).url
        limited = []
        for _ in range(2 if program else 1):
            limited.append(Replica(runs, environment | {"FORGE_RATE_LIMIT": "100"}))
            stack.callback(limited[-1].stop)
        target = Target(folder, replica, limited, bool(program), database)
        target.in_database(functools.partial(_fill, target))
        yield target


async def _fill(target: Target, connection: AsyncConnection) -> None:
    for name, role in {
        "viewer": "viewer",
        "operator": "operator",
        "other": "operator",
        "admin": "admin",
        "scoped": "admin",
        "revoked": "admin",
        "expired": "admin",
        "disabled": "admin",
        "limited": "viewer",
    }.items():
        id = target.ids[name] = await principals.create(connection, f"the {name}", role)  # type: ignore[arg-type]
        made = await keys.make(
            connection,
            "key",
            principal=id,
            name=name,
            scopes=["models:read"] if name == "scoped" else [],
            seconds=-1.0 if name == "expired" else None,
        )
        target.keys[name], target.ids[f"key of {name}"] = made.text, made.id
    await keys.revoke(connection, target.ids["key of revoked"])
    await principals.change(connection, target.ids["disabled"], disabled=True)
    target.keys["limited twice"] = (
        await keys.make(connection, "key", principal=target.ids["limited"], name="second")
    ).text
    for name, owner, state in (
        ("mine", target.ids["operator"], "running"),
        ("theirs", target.ids["other"], "running"),
        ("ended", target.ids["other"], "failed"),
        ("over", target.ids["other"], "succeeded"),
    ):
        await connection.execute(insert(run).values(id=name, state=state, owner=owner, created=time.time()))
    for name in ("mine", "theirs", "over"):
        target.keys[f"run {name}"] = await keys.run_token(connection, name)
    await connection.execute(
        insert(model).values(
            digest=DIGEST,
            run="theirs",
            phase="bitnet",
            address=str(target.folder / "store" / "theirs" / "bitnet"),
            finished=time.time(),
            owner=target.ids["other"],
        )
    )


def settings_of(target: Target) -> ControlSettings:
    """The settings of the server."""
    return ControlSettings(
        role="api",
        runs=target.folder / "runs",
        database_url=target.database,
        jwt_secret=JWT_SECRET,
        store=str(target.folder / "store"),
    )
