"""What a command loads before it answers: help and mistakes on the command line need nothing heavy."""

import os
import re
import subprocess
import sys

import pytest

from pipelines.phases import PHASES

HEAVY = {"torch", "transformers", "kfp", "kubernetes", "mlflow", "numba", "matplotlib", "pandas", "scipy"}


def loaded(*arguments: str) -> set[str]:
    """The top-level packages that `forge ARGUMENTS` imports, in whatever process it becomes."""
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return {
        name.partition(".")[0]
        for name in re.findall(r"^import time:.*\| +(\S+)$", ended.stderr, re.MULTILINE)
    }


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "run-pipeline --help",
        "status --help",
        "submit --help",
        "merge methods",
        "report no-such-run",
    ],
)
def test_what_needs_nothing_heavy_loads_nothing_heavy(arguments: str) -> None:
    packages = loaded(*arguments.split())
    assert "typer" in packages and not packages & HEAVY


@pytest.mark.parametrize("phase", PHASES)
def test_a_phases_help_loads_nothing_heavy(phase: str) -> None:
    packages = loaded("phase", phase, "--help")
    assert "argparse" in packages and not packages & HEAVY
