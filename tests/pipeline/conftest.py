"""The bench on which toy pipelines run, and the servers of a cluster."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.kubeflow import follow
from pipelines.runs import mlflow_run
from tests.pipeline.kubeflow.kubeflow_server import KubeflowServer, serve
from tests.pipeline.kubeflow.kubernetes_server import KubernetesServer
from tests.pipeline.local.toy_pipelines import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "runs").mkdir()
    return Bench(tmp_path / "runs")


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """MLflow takes three seconds of a processor to import, which on a busy machine are minutes."""
    monkeypatch.setattr(mlflow_run, "SECONDS", 600.0)


@pytest.fixture
def kubeflow(monkeypatch, tmp_path):
    """A Kubeflow Pipelines API; nothing of a cluster beside it is to be found."""
    for name in ("HOST", "TOKEN", "COOKIES", "CA", "NAMESPACE"):
        monkeypatch.delenv(f"KFP_{name}", raising=False)
    for name in ("AWS_ENDPOINT_URL", "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cli.console, "file", None)
    yield from serve(KubeflowServer())


@pytest.fixture
def kubernetes(kubeflow, monkeypatch, tmp_path):
    """A Kubernetes API beside it, to which KUBECONFIG leads."""
    server = KubernetesServer()
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
    yield from serve(server)


@pytest.fixture
def forge(bench, monkeypatch):
    """Calls the command in this process; (exit code, output)."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(bench.runs.parent)
    monkeypatch.setattr(cli.console, "file", None)

    def call(*arguments):
        result = CliRunner().invoke(
            cli.app, [str(argument) for argument in arguments], catch_exceptions=False
        )
        return result.exit_code, result.output + (result.stderr if result.exit_code else "")

    return call


class Clock:
    """A clock that only sleeping moves; `at` what happens when it has come so far."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def strftime(self, form):
        return "12:00:00"


@pytest.fixture
def clock(monkeypatch):
    """The clock of whoever waits for a run."""
    made = Clock()
    monkeypatch.setattr(follow, "time", made)
    return made
