"""Run a phase as a process of its own, and kill it at a random moment."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.contract.forked import DEADLINE, Forked


@functools.cache
def empty_database() -> bytes:
    """An MLflow database without runs: making one takes seconds."""
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return Path(folder, "mlflow.db").read_bytes()


def quiet(folder: Path) -> dict[str, str]:
    """An environment with one thread of BLAS and an MLflow of the test's own."""
    if not (folder / "mlflow.db").exists():
        (folder / "mlflow.db").write_bytes(empty_database())
    own = {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    return {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")} | own


def _start(phase: str, output: Path, arguments: Sequence[str]) -> Forked:
    module = phase if "." in phase else f"components.{phase}"
    return Forked(module, ["--output", output, *arguments], quiet(output.parent))


def _done(phase: str, output: Path, arguments: Sequence[str]) -> Forked:
    process = _start(phase, output, arguments)
    process.wait()
    return process


def run(phase: str, output: Path, arguments: Sequence[str]) -> str:
    """Run the phase to its end; the digest of what it published. Its output is shown where it fails."""
    done = _done(phase, output, arguments)
    assert done.returncode == 0, done.output
    return str(json.loads((output / "forge.json").read_text())["digest"])


def refused(phase: str, output: Path, arguments: Sequence[str]) -> str:
    """What the phase says when it refuses; it must neither succeed nor fall over, and must publish nothing."""
    done = _done(phase, output, arguments)
    assert done.returncode not in (0, 1), done.output
    assert "Traceback" not in done.output and not (output / "forge.json").exists()
    return done.output


def has_checkpoint(folder: Path) -> bool:
    """Whether one is complete; folders that are renamed while we look do not matter."""
    return any("state.json" in files for _, _, files in os.walk(folder))


def kill(phase: str, output: Path, arguments: Sequence[str], *, within: float, moment: random.Random) -> None:
    """Start the phase and SIGKILL it at a random moment, up to `within` seconds after its first checkpoint.

    A phase that had published by then is run anew and killed earlier.
    """
    checkpoints = output.parent / f"{output.name}.checkpoints"
    for attempt in range(6):
        process = _start(phase, output, arguments)
        deadline = time.monotonic() + DEADLINE
        while not has_checkpoint(checkpoints) and process.poll() is None:
            assert time.monotonic() < deadline, "the phase wrote no checkpoint"
            time.sleep(0.01)
        assert process.returncode in (None, 0), process.output
        time.sleep(moment.uniform(0, within / 2**attempt))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not (output / "forge.json").exists():
            return
        shutil.rmtree(output)
        shutil.rmtree(checkpoints, ignore_errors=True)
    raise AssertionError("the phase always ends before it is killed: give it more to do")
