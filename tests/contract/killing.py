"""Run a phase as the process that it is in a pod, and kill it at a random moment."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

DEADLINE = 300.0  # seconds after which a process hangs: many times what a slow and busy machine needs


def command(phase: str, output: Path, arguments: Sequence[str]) -> list[str]:
    """How the phase is started by hand."""
    return [sys.executable, "-m", f"components.{phase}", "--output", str(output), *map(str, arguments)]


def quiet(folder: Path) -> dict[str, str]:
    """An environment with one thread of BLAS and an MLflow of the test's own."""
    own = {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    return {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")} | own


def _done(phase: str, output: Path, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(phase, output, arguments),
        env=quiet(output.parent),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def run(phase: str, output: Path, arguments: Sequence[str]) -> str:
    """Run the phase to its end; the digest of what it published. Its output is shown where it fails."""
    done = _done(phase, output, arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(json.loads((output / "forge.json").read_text())["digest"])


def refused(phase: str, output: Path, arguments: Sequence[str]) -> str:
    """What the phase says when it refuses; it must neither succeed nor fall over, and must publish nothing."""
    done = _done(phase, output, arguments)
    assert done.returncode not in (0, 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr and not (output / "forge.json").exists()
    return done.stderr


def kill(phase: str, output: Path, arguments: Sequence[str], *, within: float, moment: random.Random) -> None:
    """Start the phase and SIGKILL it at a random moment, up to `within` seconds after its first checkpoint.

    A phase that had published by then is run anew and killed earlier.
    """
    checkpoints = output.parent / f"{output.name}.checkpoints"
    for attempt in range(6):
        process = subprocess.Popen(
            command(phase, output, arguments),
            env=quiet(output.parent),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + DEADLINE
        while not list(checkpoints.rglob("state.json")) and process.poll() is None:
            assert time.monotonic() < deadline, "the phase wrote no checkpoint"
            time.sleep(0.01)
        assert process.returncode in (None, 0), f"the phase failed with {process.returncode}"
        time.sleep(moment.uniform(0, within / 2**attempt))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not (output / "forge.json").exists():
            return
        shutil.rmtree(output)
        shutil.rmtree(checkpoints, ignore_errors=True)
    raise AssertionError("the phase always ends before it is killed: give it more to do")
