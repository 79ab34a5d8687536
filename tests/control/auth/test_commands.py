"""`forge dashboard`, `forge control` and `forge keys`, as a person at a terminal has them."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from components.shared.runtime.errors import ConfigError
from pipelines.control.settings import ControlSettings, secret_of

ROOT = Path(__file__).resolve().parents[3]


class Served:
    """A command that serves, and what it says until its first link or address."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self.url = ""
        found = threading.Event()

        def listen() -> None:
            assert self.process.stdout is not None
            for line in self.process.stdout:
                self.said.append(line)
                if "the page: " in line or " answers at " in line:
                    self.url = line.split()[-1]
                    found.set()
            found.set()

        threading.Thread(target=listen, daemon=True).start()
        assert found.wait(120) and self.url, "".join(self.said)

    def end(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    runs = tmp_path_factory.mktemp("dashboard") / "runs"
    served = Served("dashboard", "--port", "0", "--no-browser", "--runs", str(runs))
    yield served, runs
    assert served.end() == 0, "".join(served.said)
    assert "Traceback" not in "".join(served.said)


def test_the_dashboard_prints_a_link_that_signs_in_once(dashboard):
    served, runs = dashboard
    page, _, link = served.url.partition("/#link=")
    with httpx2.Client(base_url=page) as client:
        answer = client.post("/auth/exchange", json={"link": link})
        assert answer.status_code == 200 and answer.json()["principal"]["role"] == "admin"
        assert client.post("/auth/exchange", json={"link": link}).status_code == 401
        assert client.get("/readyz").json()["status"] == "ready"
    assert (runs / "control").stat().st_mode & 0o777 == 0o700
    assert (runs / "control" / "admin-key").read_text().strip() not in "".join(served.said)


def test_keys_are_made_listed_and_revoked_beside_a_living_server(dashboard, forge):
    served, runs = dashboard
    page = served.url.partition("/#")[0]
    code, key = forge(
        "keys", "create", "ci", "--owner", "ci", "--role", "operator", "--days", "2", "--runs", runs
    )
    assert code == 0 and key.strip().startswith("fk_")
    code, text = forge("keys", "list", "--json", "--runs", runs)
    row = next(row for row in json.loads(text)["keys"] if row["name"] == "ci")
    assert row["role"] == "operator" and key.strip() not in text
    with httpx2.Client(base_url=page, headers={"X-API-Key": key.strip()}) as client:
        assert client.get("/auth/me").json()["name"] == "ci"
        code, text = forge("keys", "revoke", row["id"], "--runs", runs)
        assert code == 0
        assert client.get("/auth/me").status_code == 401
    code, text = forge("keys", "link", "ci", "--runs", runs)
    assert code == 0 and text.startswith("/#link=fl_")


def test_a_port_that_is_taken_is_an_error_at_once(forge, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, text = forge("control", "--port", port, "--runs", tmp_path / "runs")
    assert code == 2 and "another process does" in text


def test_keys_before_the_first_start_leave_an_admin(forge, tmp_path):
    runs = tmp_path / "runs"
    code, key = forge("keys", "create", "laptop", "--owner", "ci", "--role", "operator", "--runs", runs)
    assert code == 0 and key.strip().splitlines()[-1].startswith("fk_")
    assert (runs / "control").stat().st_mode & 0o777 == 0o700
    assert (runs / "control/admin-key").read_text().startswith("fk_")
    assert forge("keys", "link", "--runs", runs)[0] == 0


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DATABASE_URL", "postgresql://forge:secret@127.0.0.1:1/forge", "does not answer"),
        ("DATABASE_URL", "postgresql://forge:secret@127.0.0.1:one/forge", "DATABASE_URL"),
        ("REDIS_URL", "127.0.0.1:6379", "REDIS_URL"),
    ],
)
def test_what_it_cannot_start_without_is_one_line(tmp_path, variable, value, words):
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "control",
        "--role",
        "api",
        "--port",
        "0",
        "--runs",
        str(tmp_path),
    ]
    done = subprocess.run(
        command, env={**os.environ, variable: value}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode and words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout and "secret" not in done.stderr + done.stdout


def test_a_file_that_is_no_database_is_one_line(forge, tmp_path):
    (tmp_path / "control").mkdir()
    (tmp_path / "control/control.db").write_bytes(b"no database" * 1000)
    code, text = forge("keys", "list", "--runs", tmp_path)
    assert code and "file is not a database" in text and "Traceback" not in text


def test_a_signing_secret_that_was_not_written_whole_signs_nothing(tmp_path):
    settings = ControlSettings(runs=tmp_path)
    made = secret_of(settings)
    assert len(made) == 64 and secret_of(settings) == made
    (tmp_path / "control/jwt-secret").write_text("")
    with pytest.raises(ConfigError, match="damaged"):
        secret_of(settings)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["control", "--host", "0.0.0.0"], "in the clear"),
        (["control", "--role", "apis"], "did you mean api"),
        (["control", "--host", "203.0.113.7", "--port", "1"], "in the clear"),
        (["keys", "create", "x", "--role", "root"], "there is no role"),
        (["keys", "create", "x", "--scope", "all"], "there is no such scope"),
        (["keys", "create", "a\nb"], "this is no name"),
        (["keys", "revoke", "none"], "there is no such key"),
        (["keys", "link", "nobody"], "there is no such principal"),
    ],
)
def test_what_is_not_safe_or_not_there_is_refused(forge, monkeypatch, tmp_path, arguments, words):
    monkeypatch.setenv("FORGE_RUNS", str(tmp_path / "runs"))
    code, text = forge(*arguments)
    assert code and words in text and "Traceback" not in text


def test_what_is_missing_says_how_to_install_it(forge, monkeypatch):
    from pipelines.cli.control import serving

    monkeypatch.setattr(serving, "NEEDED", ("no_such_package",))
    code, text = forge("dashboard", "--no-browser")
    assert code == 2 and "pip install 'agent-forge[control]'" in text


def test_with_a_certificate_tls_is_1_3_or_none(certificate, tmp_path):
    path, key = certificate
    served = Served(
        "control", "--role", "api", "--port", "0", "--runs", str(tmp_path / "runs"),
        FORGE_TLS_CERTIFICATE=str(path), FORGE_TLS_KEY=str(key),
    )  # fmt: skip
    try:
        port = int(served.url.rpartition(":")[2])
        context = ssl.create_default_context(cafile=str(path))
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert answer.status == 200 and answer.headers["Strict-Transport-Security"]
        connection.close()
        old = ssl.create_default_context(cafile=str(path))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", port), 10) as plain:
            old.wrap_socket(plain, server_hostname="127.0.0.1")
    finally:
        served.end()
