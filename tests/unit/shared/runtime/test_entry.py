"""The entry of a phase's process: what it answers before torch is loaded, and a stop signal that comes meanwhile."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
PHASES = sorted(path.parent.name for path in (ROOT / "components").glob("*/__main__.py"))

WITHOUT_TORCH = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "numpy"): raise ImportError(f"{name} is heavy")
sys.meta_path.insert(0, Blocker())
runpy.run_module("components." + sys.argv.pop(1), run_name="__main__")
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


def test_sigterm_while_torch_is_imported_ends_as_an_interruption():
    assert python(STOPPED).returncode == 75
