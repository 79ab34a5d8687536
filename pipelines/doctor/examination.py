"""Looks at everything that a run will need before it needs it, and says what to do where something is amiss."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ..kubeflow.http import Access
from . import cluster, machine
from .finding import Finding


def examine(runs: Path, store: str, access: Access) -> Iterator[Finding]:
    """All findings, one by one, as they are made."""
    checks: list[Callable[[], Finding]] = [
        lambda: machine.torch_(here=not access.host),
        machine.memory,
        lambda: machine.disk(runs),
        lambda: machine.artifacts(store or str(runs)),
        lambda: machine.mlflow(os.environ.get("MLFLOW_TRACKING_URI", "")),
    ]
    for check in checks:
        yield check()
    yield from cluster.examine(access)
