"""A server of the control plane in a process of its own, and what its first admin may do there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 60.0


class Server:
    """`forge control`, started on entering and ended on leaving."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.address = ""
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._principals: dict[str, str] = {}
        self._said = runs.parent / "said.txt"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; a second time where it was."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FORGE_RATE_LIMIT": "100000"}
        command = [
            sys.executable,
            "-m",
            "pipelines.cli",
            "control",
            "--port",
            str(self.port),
            "--runs",
            str(self.runs),
        ]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command,
                cwd=self.runs.parent,
                env=environment,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while not (found := re.search(r"answers at (http://[^\s]+:(\d+))", self._said.read_text())):
            assert self._process.poll() is None and time.monotonic() < until, self._said.read_text()[-3000:]
            time.sleep(0.1)
        self.address, self.port = found[1], int(found[2])

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        """End it. Runs that it has started go on, unless they are ended first."""
        if self._process is None:
            return
        self._process.send_signal(with_signal)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    @property
    def key(self) -> str:
        """The first admin's key."""
        return (self.runs / "control" / "admin-key").read_text(encoding="utf-8").strip()

    def ask(self, method: str, path: str, content: Any = None, **headers: str) -> Any:
        """What the API answers to the first admin."""
        answer = httpx2.request(
            method, self.address + path, json=content, headers={"X-API-Key": self.key, **headers}, timeout=60
        )
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def principal(self, role: str) -> str:
        """Somebody of this role."""
        if role not in self._principals:
            if role == "admin":
                self._principals[role] = self.ask("GET", "/auth/me")["id"]
            else:
                made = self.ask("POST", "/auth/principals", {"name": f"a {role}", "role": role})
                self._principals[role] = made["id"]
        return self._principals[role]

    def link(self, role: str) -> str:
        """What lets somebody of this role in, once."""
        text: str = self.ask("POST", f"/auth/principals/{self.principal(role)}/link")["link"]
        return text

    def wait_for(self, run: str, states: set[str], seconds: float = 90) -> dict[str, Any]:
        """The run, once it is in one of these states."""
        until = time.monotonic() + seconds
        while True:
            found: dict[str, Any] = self.ask("GET", f"/phases/runs/{run}")
            if found["state"] in states:
                return found
            assert time.monotonic() < until, f"{run} is {found['state']}: {found['why']}"
            time.sleep(0.2)
