"""What a machine says of itself, and what answers of what we stand on."""

from __future__ import annotations

import http.server
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.control.meters import Meters
from pipelines.control.monitoring import machine, reach
from pipelines.control.monitoring.reach import Reach
from pipelines.control.settings import ControlSettings
from tests.contract.stores.s3_servers import free_port


def test_a_machine_that_works_says_so(tmp_path: Path) -> None:
    watch = machine.Watch(tmp_path / "not" / "there" / "yet")
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass
    seen = watch.look()
    assert 0.0 < seen.cpu_usage <= 1.0 and 0.0 < seen.memory_usage < 1.0 and 0.0 < seen.disk_usage < 1.0
    assert seen.memory_limit > 2**20 and seen.disk_free > 0


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("0, 37, 10240, 143771\n1, 0, 0, 143771", [("0", 0.37, 10240 / 143771), ("1", 0.0, 0.0)]),
        ("0, [N/A], [N/A], [N/A]\n1, 5, 1, 4", [("1", 0.05, 0.25)]),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", []),
        ("", []),
    ],
)
def test_gpus_are_what_their_program_says(
    said: str, found: list[tuple[str, float, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [(gpu.index, gpu.usage, gpu.memory_usage) for gpu in machine.gpus()] == found


@pytest.fixture
def mlflow() -> Iterator[str]:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def test_what_the_settings_name_is_asked_and_nothing_else(mlflow: str, redis: str, s3_uri: str) -> None:
    assert await Reach(ControlSettings(), Meters()).look() == {}
    settings = ControlSettings(store=s3_uri, redis_url=redis, mlflow_url=f"{mlflow}/")
    assert await Reach(settings, Meters()).look() == {"store": True, "redis": True, "mlflow": True}


async def test_what_does_not_answer_is_said_and_counted(s3_uri: str) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    settings = ControlSettings(
        store=f"{s3_uri}-gone", redis_url=f"redis://{nowhere}", mlflow_url=f"http://{nowhere}"
    )
    meters = Meters()
    asked = Reach(settings, meters)
    assert await asked.look() == {"store": False, "redis": False, "mlflow": False}
    assert await asked.look() == {"store": False, "redis": False, "mlflow": False}
    assert {labels: child._value.get() for labels, child in meters.store_errors._metrics.items()} == {
        ("database",): 0.0, ("store",): 1.0, ("redis",): 1.0, ("mlflow",): 1.0,
    }  # fmt: skip


async def test_what_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(reach, "PATIENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = ControlSettings(mlflow_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert await Reach(settings, Meters()).look() == {"mlflow": False}
        assert time.monotonic() - began < 10.0
