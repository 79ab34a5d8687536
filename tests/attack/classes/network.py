"""A store behind a proxy with faults: refusals, lies, broken, stalled and slow answers."""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid

from botocore.config import Config

from components.shared.runtime.artifact import artifact
from components.shared.runtime.errors import ForgeError
from components.shared.runtime.executor import main
from components.shared.runtime.store import s3
from components.shared.runtime.store.local_copy import download
from components.shared.runtime.store.uri import open_store
from tests.attack.attempt import Bench, Loss
from tests.attack.classes import kill
from tests.attack.classes.processes import CONFIGS, Toy
from tests.contract.stores.proxy import FAULTS, Proxy

COUNT = 75
LIMIT = 120.0
prepare = kill.prepare
address: list[int] = []
"""The port of the server, once it is started."""
QUICK = {"read_timeout": 0.6, "connect_timeout": 0.6}


def serve() -> int:
    """Start an S3 server (moto) in a child; its process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address.append(free.getsockname()[1])
    pid = os.fork()
    if pid:
        return pid
    try:
        from moto.server import ThreadedMotoServer

        silent = os.open(os.devnull, os.O_WRONLY)  # it tells of every request
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        ThreadedMotoServer(ip_address="127.0.0.1", port=address[-1], verbose=False).start()
        signal.pause()
    finally:
        os._exit(0)


def attempt(bench: Bench) -> str:
    """A phase with target and checkpoints in a bucket, or a model that is fetched from one, behind the proxy."""
    upstream = f"http://127.0.0.1:{address[-1]}"
    _wait_for_server()
    os.environ.update(
        AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_REGION="us-east-1", AWS_MAX_ATTEMPTS="2"
    )
    os.environ.update(
        AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_EC2_METADATA_DISABLED="true"
    )
    s3.Config = lambda **settings: Config(**{**settings, **QUICK})  # type: ignore[attr-defined] # a minute is too long here
    s3.ATTEMPTS = 3
    bucket = f"s3://attack-{uuid.UUID(int=bench.rng.getrandbits(128)).hex[:12]}"
    os.environ["AWS_ENDPOINT_URL"] = upstream
    from boto3.session import Session

    Session().client("s3").create_bucket(Bucket=bucket.removeprefix("s3://"))
    expected = (bench.shared / "digest").read_text()
    return bench.rng.choice((published, published, fetched))(bench, bucket, upstream, expected)


def _wait_for_server() -> None:
    until = time.monotonic() + 30
    while True:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", address[-1])):
                return
        if time.monotonic() > until:
            raise Loss("moto does not start")
        time.sleep(0.05)


def published(bench: Bench, bucket: str, upstream: str, expected: str) -> str:
    """The phase, killed or not, through a bad network; then through a good one."""
    words = [
        "--output",
        f"{bucket}/out",
        "--checkpoints",
        f"{bucket}/kept",
        "toy.checkpoint_seconds=0.02",
        kill.STEPS,
    ]
    with Proxy(upstream) as proxy:
        fault = _fault(bench, proxy)
        os.environ["AWS_ENDPOINT_URL"] = proxy.address
        code = main(Toy, words, configs=CONFIGS)
        met = proxy.met
    os.environ["AWS_ENDPOINT_URL"] = upstream
    if code not in (0, 3, 4, 5):
        raise Loss(f"exit code {code} through {fault}")
    store = open_store(f"{bucket}/out")
    if store.exists("forge.json"):
        _verify(bench, f"{bucket}/out", expected)
    if (again := main(Toy, words, configs=CONFIGS)) != 0:
        raise Loss(f"exit code {again} through a good network, after {code} through {fault}")
    _verify(bench, f"{bucket}/out", expected)
    if left := [stored.key for stored in open_store(f"{bucket}/out").list() if stored.key == "forge.lock"]:
        raise Loss(f"left behind: {left}")
    return f"published, {fault}, met {met} times: exit code {code}"


def fetched(bench: Bench, bucket: str, upstream: str, expected: str) -> str:
    """An artifact, to this machine: the very bytes or an error; and again, when the network is good."""
    open_store(f"{bucket}/out").upload(bench.shared / "out")
    with Proxy(upstream) as proxy:
        fault = _fault(bench, proxy)
        os.environ["AWS_ENDPOINT_URL"] = proxy.address
        try:
            _verify(bench, f"{bucket}/out", expected)
            said = "whole"
        except ForgeError as error:
            said = str(error)
    os.environ["AWS_ENDPOINT_URL"] = upstream
    _verify(bench, f"{bucket}/out", expected)
    return f"fetched, {fault}: {said}"


def _fault(bench: Bench, proxy: Proxy) -> str:
    """One of the proxy's faults, now and then, for some requests or all."""
    name = sorted(FAULTS)[int(bench.inside.parent.name) % len(FAULTS)]  # each in turn
    proxy.fault, proxy.skip = name, bench.rng.choice((0, 1, bench.rng.randrange(30)))
    proxy.times = bench.rng.choice((1, 1, 2, 4, 10**9))
    return f"{name} × {proxy.times} after {proxy.skip} requests"


def _verify(bench: Bench, uri: str, expected: str) -> None:
    folder = download(uri, bench.inside / "fetched")
    if artifact.read(folder).digest != expected:
        raise Loss(f"{uri} holds another artifact")
