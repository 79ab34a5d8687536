"""Prometheus and Alertmanager on loopback, started with the project's own files, and a served process that they read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI

from pipelines.control.api.app import application
from pipelines.control.server import Server, bound, config
from pipelines.control.settings import ControlSettings
from tests.contract.stores.s3_servers import free_port
from tests.needs import lacks

FOLDER = Path(__file__).resolve().parents[3] / "pipelines" / "control" / "monitoring"


class Served:
    """A process of the control plane, in a thread of its own."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self.app = app
        self.control = app.state.control
        self.url = f"http://127.0.0.1:{port}"
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something in its event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def get(self, path: str, key: str) -> Any:
        request = urllib.request.Request(self.url + path, headers={"X-API-Key": key})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextlib.contextmanager
def served(settings: ControlSettings) -> Iterator[Served]:
    app, ready, loops = application(settings), threading.Event(), []

    async def answers() -> None:
        loops.append(asyncio.get_running_loop())
        ready.set()

    with contextlib.closing(bound(settings)) as listening:
        server = Server(config(app, settings), answers)
        thread = threading.Thread(target=server.run, args=[[listening]], daemon=True)
        thread.start()
        assert ready.wait(30)
        try:
            yield Served(app, loops[0], listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(30)


@contextlib.contextmanager
def started(program: str, folder: Path, answers: str, *arguments: str) -> Iterator[None]:
    """A program that runs until the block ends. `answers` is the address at which it says that it is ready."""
    found = shutil.which(program) or lacks(f"{program} is not installed")
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen([found, *arguments], stdout=log, stderr=log, cwd=folder, env=os.environ)
    try:
        until(lambda: _ok(answers), f"{program} answers", process)
        yield
    finally:
        process.kill()
        process.wait()


def until(
    true: Callable[[], Any], what: str, process: subprocess.Popen[bytes] | None = None, seconds: float = 60.0
) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert process is None or process.poll() is None, f"{what}: it has ended"
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)
    return found


def query(prometheus: str, expression: str) -> list[dict[str, Any]]:
    address = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(address, timeout=10) as answer:
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return result


@contextlib.contextmanager
def watching(folder: Path, api: str, key: str, secret: str) -> Iterator[str]:
    """Prometheus and Alertmanager with the project's files; only addresses, intervals and one threshold are others'."""
    ports = free_port(), free_port()
    (folder / "key").write_text(key)
    (folder / "secret").write_text(secret)
    rules = (
        (FOLDER / "rules.yaml")
        .read_text()
        .replace("agent_forge_memory_usage > 0.8", "agent_forge_memory_usage > 0")
    )
    (folder / "rules.yaml").write_text(
        "\n".join(line for line in rules.splitlines() if not line.strip().startswith("for:"))
    )
    scrape = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    scrape["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    scrape["scrape_configs"][0]["authorization"]["credentials_file"] = str(folder / "key")
    scrape["scrape_configs"][0]["static_configs"][0]["targets"] = [api.removeprefix("http://")]
    scrape["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{ports[1]}"]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(scrape))
    routes = (FOLDER / "alertmanager.yaml").read_text()
    for theirs, ours in (
        ("http://127.0.0.1:8083", api),
        ("http://127.0.0.1:8084", api),
        ("/etc/alertmanager/forge-webhook-secret", str(folder / "secret")),
        ("group_wait: 10s", "group_wait: 0s"),
    ):
        assert theirs in routes
        routes = routes.replace(theirs, ours)
    (folder / "alertmanager.yaml").write_text(routes)
    prometheus, alertmanager = (f"http://127.0.0.1:{port}" for port in ports)
    with (
        started(
            "prometheus-alertmanager", folder, f"{alertmanager}/-/ready", "--config.file=alertmanager.yaml",
            f"--web.listen-address=127.0.0.1:{ports[1]}", "--cluster.listen-address=", "--storage.path=alerts",
        ),
        started(
            "prometheus", folder, f"{prometheus}/-/ready", "--config.file=prometheus.yaml",
            f"--web.listen-address=127.0.0.1:{ports[0]}", "--storage.tsdb.path=data",
        ),
    ):  # fmt: skip
        yield prometheus


def _ok(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
