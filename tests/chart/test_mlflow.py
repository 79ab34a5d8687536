"""The MLflow of the chart: the real program takes its arguments, starts, and answers under its own names only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest

from tests.chart.rendering import containers, of_kind, pod_templates, render

pytestmark = pytest.mark.usefixtures("helm")
PATIENCE = 500.0
"""Seconds until a server that does not answer is one that does not start. It takes 10."""


def _arguments() -> list[str]:
    (pod,) = [pod for whose, pod in pod_templates(render("kind")) if whose == "Deployment/agent-forge-mlflow"]
    (container,) = containers(pod)
    assert container["command"] == ["mlflow"]
    return list(container["args"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow as the pod runs it, its port and its volume replaced by some of this machine."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    replaced = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}"}
    arguments = [replaced.get(each, each).replace("/mlflow/", f"{folder}/") for each in _arguments()]
    environment = {**os.environ, "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "mlflow", *arguments]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + PATIENCE
        while _status(url, "/health", "localhost:5000") != 200:
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too; nothing of it is kept
        process.wait()


def _status(url: str, path: str, host: str) -> int:
    request = urllib.request.Request(url + path, headers={"Host": host})
    try:
        with contextlib.closing(urllib.request.urlopen(request, timeout=60)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


API = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"


def test_it_answers_under_the_name_that_the_pods_are_told(server: str) -> None:
    (config,) = of_kind(render("kind"), "ConfigMap")
    told = urlsplit(config["data"]["MLFLOW_TRACKING_URI"])
    assert _status(server, API, told.netloc) == 200


@pytest.mark.parametrize(
    "host", ["agent-forge-mlflow:5000", "agent-forge-mlflow.kubeflow:5000", "localhost:8888"]
)
def test_it_answers_under_its_short_names_and_through_a_forwarded_port(server: str, host: str) -> None:
    assert _status(server, API, host) == 200


def test_it_refuses_a_name_that_is_not_its_own(server: str) -> None:
    assert _status(server, API, "evil.example:5000") == 403


def test_the_probes_of_the_kubelet_name_an_address_and_are_answered(server: str) -> None:
    assert _status(server, "/health", "10.244.0.7:5000") == 200


def test_the_image_is_of_the_clients_version(helm: Path) -> None:
    (pod,) = [pod for whose, pod in pod_templates(render("kind")) if whose == "Deployment/agent-forge-mlflow"]
    assert containers(pod)[0]["image"].endswith(f":v{mlflow.__version__}")
