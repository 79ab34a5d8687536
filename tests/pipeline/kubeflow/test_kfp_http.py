"""What a Kubeflow Pipelines server may answer, and what is made of it: each request ends, and each answer is looked at."""

import datetime
import ipaddress
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from components.shared.runtime.errors import ConfigError, StoreError
from pipelines.kubeflow.http import Access, Connection, NotFound, NotLoggedIn, ServerLost
from pipelines.kubeflow.server import Server
from tests.pipeline.kubeflow.kubeflow_server import CHAIN, RUN, run

TEXT = "pipelineInfo: {name: x}\nroot: {dag: {tasks: {one: {}}}}\n"


@pytest.fixture
def server(kubeflow):
    kubeflow.runs[RUN] = [run("RUNNING")]
    return Server(Access(kubeflow.host), seconds=(2.0, 0.3))


def submit(server):
    return server.submit(TEXT, {}, name="n", experiment="e", caching=True)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("html", NotLoggedIn, "a web page"),
        ("redirect", NotLoggedIn, "sends us to /dex/auth"),
        (401, NotLoggedIn, "401"),
        (403, NotLoggedIn, "fault 403"),
        ("drop", ServerLost, "does not answer"),
        ("cut", ServerLost, "breaks off"),
        ("page502", ServerLost, "502 Bad Gateway"),
        (503, ServerLost, "fault 503"),
        (400, StoreError, "fault 400"),
        ("empty", StoreError, "there is no run_id"),
    ],
)
def test_an_answer_that_is_not_the_apis_is_an_error_that_says_what_it_was(
    kubeflow, server, fault, kind, words
):
    kubeflow.always = fault
    with pytest.raises(kind) as caught:
        server.run(RUN)
    assert words in str(caught.value) and kubeflow.host in str(caught.value)
    assert "<html" not in str(caught.value)
    assert len(kubeflow.seen) == 1


@pytest.mark.parametrize("fault", ["html", "redirect", "empty"])
def test_nothing_counts_as_submitted_that_has_no_id(kubeflow, server, fault):
    kubeflow.faults = [None, None, fault]
    with pytest.raises(StoreError) as caught:
        submit(server)
    assert "None" not in str(caught.value)


def test_a_server_that_takes_the_connection_and_never_answers_meets_the_time_limit(kubeflow, server):
    kubeflow.always = "hang"
    began = time.monotonic()
    with pytest.raises(ServerLost, match="Read timed out"):
        server.run(RUN)
    assert time.monotonic() - began < 10  # of thirty that it would hang
    assert len(kubeflow.seen) == 1


def test_a_submission_is_not_sent_twice_when_its_answer_is_lost(kubeflow, server):
    kubeflow.faults = [None, None, "drop"]
    with pytest.raises(ServerLost):
        submit(server)
    assert kubeflow.paths().count("POST /apis/v2beta1/runs") == 1


def test_a_run_that_is_not_there_is_named(server):
    with pytest.raises(NotFound, match="nowhere"):
        server.run("nowhere")


def headers(kubeflow, **access):
    kubeflow.runs[RUN] = [run("RUNNING")]
    Server(Access(kubeflow.host, **access)).run(RUN)
    return {name.lower(): value for name, value in kubeflow.seen[-1][3].items()}


def test_a_token_or_cookies_go_with_every_request(kubeflow):
    assert headers(kubeflow, token="secret")["authorization"] == "Bearer secret"
    sent = headers(kubeflow, cookies="authservice_session=abc")
    assert sent["cookie"] == "authservice_session=abc" and "authorization" not in sent


def test_inside_a_pod_its_own_token_is_read_for_each_request(kubeflow, monkeypatch, tmp_path):
    file = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    file.write_text("first\n")
    kubeflow.runs[RUN] = [run("RUNNING")]
    server = Server(Access(kubeflow.host))
    for text in ("first", "renewed"):
        file.write_text(f"{text}\n")
        server.run(RUN)
        assert kubeflow.seen[-1][3]["authorization"] == f"Bearer {text}"
    assert headers(kubeflow, token="mine")["authorization"] == "Bearer mine"


def test_a_file_of_certificates_that_is_not_there_is_found_before_anything_is_sent(kubeflow):
    with pytest.raises(ConfigError, match=r"none\.pem"):
        Server(Access(kubeflow.host, authority="none.pem"))
    assert kubeflow.seen == []


def certificate(folder, name):
    """A certificate for 127.0.0.1 that only it itself vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / f"{name}.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").write_bytes(private)
    return folder / f"{name}.pem", folder / f"{name}.key"


def test_a_certificate_is_trusted_by_the_authority_that_is_given(kubeflow, tmp_path):
    right, key = certificate(tmp_path, "right")
    wrong, _ = certificate(tmp_path, "wrong")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(right, key)
    kubeflow.socket = context.wrap_socket(kubeflow.socket, server_side=True)
    kubeflow.runs[RUN] = [run("RUNNING")]
    host = kubeflow.host.replace("http", "https")
    assert Server(Access(host, authority=str(right))).run(RUN)["state"] == "RUNNING"
    with pytest.raises(StoreError, match="--ca") as caught:
        Server(Access(host, authority=str(wrong))).run(RUN)
    assert not isinstance(caught.value, ServerLost)


def test_a_host_without_a_scheme_is_https_and_none_at_all_is_named():
    assert Connection(Access("kubeflow.example/pipeline/")).host == "https://kubeflow.example/pipeline"
    with pytest.raises(ConfigError, match="KFP_HOST"):
        Connection(Access(""))


def test_a_run_is_found_by_id_name_page_or_as_the_latest(kubeflow, server):
    assert server.find(RUN) == RUN
    assert server.find(f"{kubeflow.host}/#/runs/details/{RUN}") == RUN
    assert kubeflow.seen == []
    assert server.find("first") == server.find("latest") == RUN
    assert kubeflow.seen[-1][2]["sort_by"] == "created_at desc"
    with pytest.raises(NotFound, match="other"):
        server.find("other")
    kubeflow.runs["another"] = [run("FAILED") | {"run_id": "another"}]
    with pytest.raises(NotFound, match="several"):
        server.find("first")


def test_the_pipeline_of_a_run_started_from_an_uploaded_one_is_that_versions(kubeflow, server):
    kubeflow.pipelines["agent-forge"] = {"id": "p1", "versions": {}, "spec": CHAIN}
    reference = {"pipeline_id": "p1", "pipeline_version_id": "v1"}
    kubeflow.runs[RUN] = [run("RUNNING", pipeline_version_reference=reference, pipeline_spec=None)]
    assert server.run(RUN)["pipeline_spec"] == CHAIN
