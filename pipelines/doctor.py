"""Looks at everything that a run will need before it needs it, and says what to do where something is amiss."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.shared.runtime.errors import ForgeError

GIB = 2**30
MEMORY_NEEDED = 4 * GIB
"""Of the tiny profile, with two phases at once."""
DISK_NEEDED = 2 * GIB
SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the report: ok, warn (it works, but) or fail (a run would not)."""

    verdict: Literal["ok", "warn", "fail"]
    what: str
    found: str
    fix: str = ""


def examine(runs: Path, store: str, host: str) -> Iterator[Finding]:
    """All findings, one by one, as they are made."""
    checks: list[Callable[[], Finding]] = [
        torch_,
        memory,
        lambda: disk(runs),
        lambda: artifacts(store or str(runs)),
    ]
    checks += [lambda: mlflow(os.environ.get("MLFLOW_TRACKING_URI", "")), lambda: kubeflow(host), kubernetes]
    for check in checks:
        yield check()


def torch_() -> Finding:
    """torch, and what it can compute on."""
    try:
        import torch
    except ImportError as error:
        return Finding("fail", "torch", str(error), "install the project: make setup")
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
        return Finding(
            "ok", "torch", f"{torch.__version__}, {torch.cuda.device_count()} × {', '.join(sorted(names))}"
        )
    return Finding(
        "ok", "torch", f"{torch.__version__}, {os.cpu_count()} CPU cores, no GPU: the tiny profile fits"
    )


def memory() -> Finding:
    """Memory that is available now, or the limit of the container."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    proc, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if proc.is_file():
        lines = dict(line.split(":", 1) for line in proc.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    if limit.is_file() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()))
    found = f"{free / GIB:.1f} GiB free"
    if free < MEMORY_NEEDED:
        fix = f"two phases at once need up to {MEMORY_NEEDED / GIB:.0f} GiB: use --slots 1"
        return Finding("warn", "memory", found, fix)
    return Finding("ok", "memory", found)


def disk(runs: Path) -> Finding:
    """Space where the runs are kept."""
    place = runs.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GiB free in {place}"
    if free < DISK_NEEDED:
        return Finding("warn", "disk", found, "make room, or give --runs on another disk")
    return Finding("ok", "disk", found)


def artifacts(uri: str) -> Finding:
    """The store: can it be written, and does put-if-absent have one winner?"""
    from components.shared.runtime.places import open_store

    try:
        open_store(uri).probe()
    except ForgeError as error:
        return Finding("fail", "store", f"{error.what} [{error.where or uri}]", error.fix or error.why)
    return Finding("ok", "store", f"{uri}: writes, and one of two writers wins")


def mlflow(uri: str) -> Finding:
    """The tracking server, where one is named."""
    if not uri.startswith("http"):
        return Finding("ok", "MLflow", uri or "no server named: metrics go to runs/mlflow.db")
    problem = _get(f"{uri.rstrip('/')}/health")
    if problem:
        return Finding(
            "warn", "MLflow", f"{uri}: {problem}", "runs work without it; check MLFLOW_TRACKING_URI"
        )
    return Finding("ok", "MLflow", uri)


def kubeflow(host: str) -> Finding:
    """The Kubeflow Pipelines API, where one is named."""
    if not host:
        return Finding("ok", "Kubeflow", "no host named: --host or KFP_HOST, only needed to submit")
    problem = _get(f"{host.rstrip('/')}/apis/v2beta1/healthz")
    if problem:
        return Finding(
            "fail",
            "Kubeflow",
            f"{host}: {problem}",
            "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80",
        )
    return Finding("ok", "Kubeflow", host)


def kubernetes() -> Finding:
    """GPUs that the cluster can give to pods."""
    kubeconfig = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    inside = "KUBERNETES_SERVICE_HOST" in os.environ
    if not inside and not any(os.path.exists(path) for path in kubeconfig.split(os.pathsep)):
        return Finding("ok", "Kubernetes", "no kubeconfig: only needed for a cluster")
    from kubernetes import client, config

    try:
        if inside:
            config.load_incluster_config()
        else:
            config.load_kube_config(config_file=kubeconfig)
        nodes = client.CoreV1Api().list_node(_request_timeout=SECONDS).items
    except Exception as error:  # whatever a cluster, its proxy or its certificates answer
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return Finding("warn", "Kubernetes", first[:160], "kubectl get nodes shows more")
    gpus = sum(int(node.status.allocatable.get("nvidia.com/gpu", 0)) for node in nodes)
    found = f"{len(nodes)} nodes, {gpus} allocatable GPUs"
    if not gpus:
        return Finding(
            "warn",
            "Kubernetes",
            found,
            "without GPUs submit with --cluster kind, or install the device plugin",
        )
    return Finding("ok", "Kubernetes", found)


def _get(url: str) -> str:
    """What is wrong with an address, nothing when it answers."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS):
            return ""
    except (urllib.error.URLError, OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
