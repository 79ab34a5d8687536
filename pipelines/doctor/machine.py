"""What `forge doctor` looks at on this machine: torch, memory, disk, the artifact store, MLflow."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path

from components.shared.runtime import machine
from components.shared.runtime.errors import ForgeError

from .finding import Finding

GIB = 2**30
MEMORY_NEEDED = 4 * GIB
"""Of the tiny profile, with cognate's three variants side by side."""
DISK_NEEDED = 2 * GIB
SECONDS = 5.0


def torch_(*, here: bool) -> Finding:
    """torch, and what it can compute on.

    :param here: phases shall run on this machine; where a cluster runs them, it can do without.
    """
    try:
        import torch
    except ImportError as error:
        fix = "install the project: make setup" if here else "only where phases run: the images have it"
        return Finding("fail" if here else "ok", "torch", str(error), fix)
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
        return Finding(
            "ok", "torch", f"{torch.__version__}, {torch.cuda.device_count()} × {', '.join(sorted(names))}"
        )
    return Finding(
        "ok", "torch", f"{torch.__version__}, {machine.cores():g} CPU cores, no GPU: the tiny profile fits"
    )


def memory() -> Finding:
    """Memory that can be had now: the machine's, or what the tightest control group around us leaves."""
    free = machine.memory().free
    text = f"{free / GIB:.1f} GiB free"
    if free < MEMORY_NEEDED:
        fix = f"with less than {MEMORY_NEEDED / GIB:.0f} GiB fewer phases run at once, and one may be killed: make room"
        return Finding("warn", "memory", text, fix)
    return Finding("ok", "memory", text)


def disk(runs: Path) -> Finding:
    """Space where the runs are kept."""
    folder = runs.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / GIB:.1f} GiB free in {folder}"
    if free < DISK_NEEDED:
        return Finding("warn", "disk", text, "make room, or give --runs on another disk")
    return Finding("ok", "disk", text)


def artifacts(uri: str) -> Finding:
    """The store: that it can be written, and that put-if-absent has one winner."""
    from components.shared.runtime.store.uri import open_store

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


def _get(url: str) -> str:
    """What is wrong with an address, nothing when it answers."""
    try:
        with urllib.request.urlopen(url, timeout=SECONDS):
            return ""
    except (urllib.error.URLError, OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
