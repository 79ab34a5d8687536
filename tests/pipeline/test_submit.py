"""What a Kubeflow Pipelines server is sent: a server on this machine keeps the requests and answers as the API does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from pipelines import cli


class Api(BaseHTTPRequestHandler):
    """The four calls of the v2beta1 API that a submission makes."""

    def do_GET(self):
        run = {"run_id": "r1", "state": self.server.state}
        self.answer(run if "/runs/" in self.path else {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers.get("Authorization"), body))
        self.answer({"run_id": "r1"} if self.path.endswith("/runs") else {"experiment_id": "e1"})

    def answer(self, content):
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("KFP_HOST", "KFP_TOKEN", "KFP_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli.console, "file", None)
    made = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    made.seen, made.state = [], "SUCCEEDED"
    made.host = f"http://127.0.0.1:{made.server_port}"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """The digest of the settings of all phases is another test's subject."""
    monkeypatch.setattr("pipelines.parameters.validate_all", lambda *given, **named: [])


ONE_PHASE = ["--from", "adas", "--to", "adas", "--artifact", "s3://b/model"]


def submit(server, *arguments):
    result = CliRunner().invoke(
        cli.app, ["submit", "--host", server.host, *arguments], catch_exceptions=False
    )
    return result.exit_code, result.output


def test_a_run_is_submitted_with_its_parameters_and_its_page_is_printed(server):
    access = ["--token", "secret", "--namespace", "team"]
    settings = ["--seed", "7", "-s", "accelerator_limit=2", "-O", "bitnet.threads=4"]
    code, text = submit(server, *access, *settings, "--name", "n")
    assert code == 0, text
    assert text.strip() == f"{server.host}/#/runs/details/r1"
    path, authorization, body = server.seen[-1]
    assert path == "/apis/v2beta1/runs" and authorization == "Bearer secret"
    sent = body["runtime_config"]["parameters"]
    assert (sent["seed"], sent["accelerator_limit"], sent["overrides"]) == (7, "2", ["bitnet.threads=4"])
    assert sent["base_models"] == ["standard", "memory", "reasoning"] and sent["workers"] == [0, 1]
    assert len(sent["config_digest"]) == 64 and sent["code_version"].startswith("0.1.0+")
    spec = body["pipeline_spec"]
    assert (
        spec["pipeline_spec"]["pipelineInfo"]["name"] == "agent-forge"
        and "platforms" in spec["platform_spec"]
    )
    assert server.seen[0][2] == {"display_name": "agent-forge", "namespace": "team"}


def test_one_phase_is_submitted_with_the_address_of_its_artifact(server):
    code, text = submit(
        server, "--from", "training", "--to", "training", "--artifact", "s3://b/model", "--cluster", "gpu"
    )
    assert code == 0, text
    sent = server.seen[-1][2]["runtime_config"]["parameters"]
    assert sent["artifact_uri"] == "s3://b/model" and sent["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_waiting_ends_with_the_run_and_fails_when_it_fails(server):
    assert submit(server, "--wait", *ONE_PHASE)[0] == 0
    server.state = "FAILED"
    assert submit(server, "--wait", *ONE_PHASE)[0] == 9


def test_a_server_that_is_not_there_is_named(server):
    server.host = "http://127.0.0.1:9"
    result = CliRunner().invoke(cli.app, ["submit", "--host", server.host, *ONE_PHASE])
    assert result.exit_code == 5
    assert server.host in result.stderr and "forge doctor" in result.stderr


def test_nothing_is_submitted_with_an_unknown_parameter(server):
    assert submit(server, "-s", "acelerator_limit=2", *ONE_PHASE)[0] == 2
    assert server.seen == []
