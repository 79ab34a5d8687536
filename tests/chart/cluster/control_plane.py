"""A Kubernetes API for the tests: etcd, kube-apiserver and kube-scheduler on this machine, or a cluster that is there.

`KUBEBUILDER_ASSETS` is the folder with the binaries, as envtest has it (kube-scheduler may be missing there: the tests
of placement then skip). `FORGE_TEST_KUBECONFIG` names a cluster in place of them: what the tests make there, they
remove. Without either there is nothing to test against.

There is no kubelet, so no pod runs, and no controller-manager, so a Deployment makes no pods: the tests take its
template and make one.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from ssl import CERT_NONE, create_default_context
from typing import Any

from tests.chart import tools

TOKEN = "tests-of-this-machine"
SECONDS = 400.0
"""How long the API server may take to become ready. It takes 5 s; a busy machine more."""


@dataclass(frozen=True)
class Cluster:
    """A Kubernetes API, and the programs that speak to it."""

    kubeconfig: Path
    ours: bool
    """Started by these tests: nodes may be made up in it."""
    scheduler: bool

    def run(self, program: str, *arguments: str, given: str = "", check: bool = True) -> Any:
        """Run helm or kubectl on this cluster.

        :param given: its standard input.
        :raises AssertionError: it ended with an error, with what it said.
        """
        command = [str(tools.find(program)), *arguments]
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        ended = subprocess.run(command, input=given, capture_output=True, text=True, env=environment)
        if check:
            assert ended.returncode == 0, f"{' '.join(arguments)}: {ended.stderr}"
        return ended

    def kubectl(self, *arguments: str, given: str = "") -> str:
        """kubectl's standard output."""
        return str(self.run("kubectl", *arguments, given=given).stdout)

    def helm(self, *arguments: str) -> str:
        """helm's standard output."""
        return str(self.run("helm", *arguments).stdout)

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects; the server knows every field, or refuses."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.kubectl("apply", "--validate=strict", "--filename", "-", given=text)

    def refusal(self, *objects: dict[str, Any]) -> str:
        """What the server has against objects, nothing when it would take them all. Nothing is stored."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        arguments = ("create", "--validate=strict", "--dry-run=server", "--filename", "-")
        ended = self.run("kubectl", *arguments, given=text, check=False)
        return str(ended.stderr) if ended.returncode else ""

    def get(self, *arguments: str) -> Any:
        """`kubectl get … --output json`, parsed."""
        return json.loads(self.kubectl("get", *arguments, "--output", "json"))


def missing() -> str:
    """Why there is no cluster to test against; nothing when there is one."""
    if os.environ.get("FORGE_TEST_KUBECONFIG"):
        return ""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return "neither KUBEBUILDER_ASSETS (etcd and kube-apiserver) nor FORGE_TEST_KUBECONFIG is set"
    absent = [name for name in ("etcd", "kube-apiserver") if not (Path(folder) / name).is_file()]
    return f"{', '.join(absent)} not in KUBEBUILDER_ASSETS" if absent else ""


@contextlib.contextmanager
def cluster(scratch: Path) -> Iterator[Cluster]:
    """The cluster that the environment names, or one of our own for as long as this lasts."""
    if given := os.environ.get("FORGE_TEST_KUBECONFIG"):
        yield Cluster(Path(given), ours=False, scheduler=True)
        return
    assets = Path(os.environ["KUBEBUILDER_ASSETS"])
    with contextlib.ExitStack() as running:
        etcd = _etcd(running, assets, scratch)
        kubeconfig = _api_server(running, assets, scratch, etcd)
        scheduler = (assets / "kube-scheduler").is_file()
        if scheduler:
            arguments = (f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0")
            running.enter_context(_process(scratch, assets / "kube-scheduler", *arguments))
        yield Cluster(kubeconfig, ours=True, scheduler=scheduler)


def _etcd(running: contextlib.ExitStack, assets: Path, scratch: Path) -> str:
    client, peer = (f"http://127.0.0.1:{port}" for port in _free_ports(2))
    running.enter_context(
        _process(
            scratch, assets / "etcd", f"--data-dir={scratch / 'etcd'}", "--unsafe-no-fsync",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )
    )  # fmt: skip
    return client


def _api_server(running: contextlib.ExitStack, assets: Path, scratch: Path, etcd: str) -> Path:
    (port,) = _free_ports(1)
    key, tokens = scratch / "service-accounts.key", scratch / "tokens.csv"
    _private_key(key)
    tokens.write_text(f'{TOKEN},admin,admin,"system:masters"\n')
    process = running.enter_context(
        _process(
            scratch, assets / "kube-apiserver", f"--etcd-servers={etcd}", f"--cert-dir={scratch}",
            "--bind-address=127.0.0.1", f"--secure-port={port}", f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
        )
    )  # fmt: skip
    server = f"https://127.0.0.1:{port}"
    _wait(f"{server}/readyz", process, scratch / "kube-apiserver.log")
    kubeconfig = scratch / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "tests",
                "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
                "users": [{"name": "tests", "user": {"token": TOKEN}}],
                "clusters": [
                    {"name": "tests", "cluster": {"server": server, "insecure-skip-tls-verify": True}}
                ],
            }
        )
    )
    return kubeconfig


@contextlib.contextmanager
def _process(scratch: Path, program: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server, its output in a file, ended at the end."""
    with (scratch / f"{program.name}.log").open("wb") as log:
        process = subprocess.Popen([str(program), *arguments], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    context = create_default_context()
    context.check_hostname, context.verify_mode = False, CERT_NONE  # its certificate was made a second ago
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(request, timeout=5, context=context).close()
            return
        time.sleep(0.2)
    raise AssertionError(f"kube-apiserver did not become ready: {log.read_text()[-2000:]}")


def _private_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    path.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
