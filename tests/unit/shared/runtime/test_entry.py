"""The entry of a phase's process: what it answers before torch is loaded, and a stop signal that comes meanwhile."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.phases import PHASES

ROOT = Path(__file__).resolve().parents[4]

WITHOUT_TORCH = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        heavy = ("torch", "transformers", "numpy", "kfp", "hydra", "omegaconf", "mlflow", "boto3", "numba")
        if name.split(".")[0] in heavy: raise ImportError(f"{name} is heavy")
sys.meta_path.insert(0, Blocker())
runpy.run_module("components." + sys.argv.pop(1), run_name="__main__")
"""

FORGE = """
import os, sys
started = []
os.execve = lambda path, arguments, environment: started.append(arguments)
from pipelines.cli import app
app(["phase", "bitnet", "--help"], standalone_mode=False)
assert started[0][1:] == ["-m", "components.bitnet", "--help"], started
heavy = {"torch", "transformers", "numpy", "kfp", "hydra", "omegaconf", "mlflow", "boto3", "yaml"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""

STOPPED = """
import importlib, os, signal, sys
original = importlib.import_module
def stopped(name, package=None):
    if name.endswith(".phase"): os.kill(os.getpid(), signal.SIGTERM)
    return original(name, package)
importlib.import_module = stopped
sys.argv = ["phase", "--output", "out"]
from components.shared.runtime.entry import start
start("bitnet", "BitNet")
"""


def python(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("phase", PHASES)
def test_help_and_a_wrong_command_line_need_no_torch(phase):
    done = python(WITHOUT_TORCH, phase, "--help")
    assert done.returncode == 0 and f"python -m components.{phase}" in done.stdout, done.stderr
    done = python(WITHOUT_TORCH, phase)
    assert done.returncode == 2 and f"{phase}: there is no --output" in done.stderr


def test_the_forge_command_hands_a_phase_over_without_loading_anything_heavy():
    done = python(FORGE)
    assert done.returncode == 0, done.stderr


def test_sigterm_while_torch_is_imported_ends_as_an_interruption():
    assert python(STOPPED).returncode == 75
