"""What a program may use ends, and so does the program; what it leaves is removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from components.shared.sandbox import run
from components.shared.sandbox.backends import SandboxUnavailable
from components.shared.sandbox.run import available, run_python

from .holds import WAYS, held

both = pytest.mark.parametrize("way", WAYS[:2])


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@both
def test_a_program_has_its_folder_and_its_standard_library(way: str, tmp_path: Path) -> None:
    program = """
import collections, datetime, decimal, hashlib, json, math, os, random, re, sqlite3, statistics, tempfile, zlib
os.mkdir("a"); open("a/b", "w").write("text"); os.rename("a/b", "a/c"); assert open("a/c").read() == "text"
with tempfile.TemporaryDirectory() as folder:
    open(f"{folder}/own", "w").close()
with sqlite3.connect("base") as base:
    base.execute("create table t (a)")
print(math.sqrt(4), os.listdir("."), len(os.environ))
"""
    outcome = held(way, program)
    assert outcome.completed and outcome.stdout.startswith("2.0 ["), outcome
    assert not list(tmp_path.iterdir()), "its folder is removed"


@both
def test_memory_ends(way: str) -> None:
    assert held(way, "a = bytearray(1 << 30)").ending == "memory"
    assert held(way, "a = []\nwhile True:\n    a.append(bytearray(1 << 20))").ending == "memory"


@both
def test_the_disk_ends(way: str, tmp_path: Path) -> None:
    one = held(
        way,
        """
with open("a", "wb") as file:
    while True:
        file.write(bytes(1 << 16))
""",
    )
    assert one.ending == "disk" or "Error" in one.stderr
    many = """
n = 0
while True:
    n += 1
    try:
        open(str(n), 'wb').write(bytes(1 << 12))
    except OSError:
        continue
"""
    assert held(way, many).ending == "disk"
    deep = "import os\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')"
    assert held(way, deep).ending in ("disk", "error")
    assert not list(tmp_path.iterdir())


@both
def test_output_ends(way: str) -> None:
    for stream in ("stdout", "stderr"):
        outcome = held(way, f"import sys\nwhile True:\n    sys.{stream}.write('x' * 4096)")
        assert outcome.ending == "output" and len(getattr(outcome, stream)) == 1 << 16
    assert held(way, "import sys\nsys.stdout.write('x' * 70000)").ending == "output", "at its end too"


@both
def test_time_ends(way: str) -> None:
    assert held(way, "while True:\n    pass", seconds=1).ending == "time"
    assert held(way, "import time\ntime.sleep(1000)", wall=1.0).ending == "time"


def test_ignoring_the_end_of_its_time_is_of_no_use_to_a_program() -> None:
    program = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n    pass"
    assert held(WAYS[1], program, seconds=1).ending == "killed"


@both
def test_a_program_that_leaves_early_has_not_completed(way: str) -> None:
    for leaving in ("import os\nos._exit(0)", "import sys\nsys.exit(0)", "exit()"):
        outcome = held(way, f"{leaving}\nassert False")
        assert not outcome.completed and outcome.ending in ("exit", "error")
    error = held(way, "x = 1\nassert x == 2, 'no'")
    assert error.ending == "error" and "assert x == 2" in error.stderr and "confine" not in error.stderr
    assert held(way, "def").ending == "error"


def test_where_nothing_holds_a_program_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = run.Limits(5, 60.0, 256 << 20, 1 << 20, 1 << 16)
    with pytest.raises(SandboxUnavailable, match="no Landlock"):
        run._run("print('bare')", limits, "landlock", 0)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match="not installed"):
        run_python("print('bare')", backend="bubblewrap")
    bare = tmp_path / "bin" / "bwrap"
    bare.parent.mkdir()
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setenv("PATH", str(bare.parent))
    with pytest.raises(SandboxUnavailable, match="it ended with"):
        run_python("print('bare')", backend="bubblewrap")


def test_without_bubblewrap_the_other_backend_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    held(WAYS[1], "")  # skips where there is no Landlock
    monkeypatch.setenv("PATH", "/nowhere")
    assert available.__wrapped__() == "landlock"


@both
def test_a_program_does_not_outlive_who_asked_for_it(way: str, tmp_path: Path) -> None:
    held(way, "")
    code = (
        "from components.shared.sandbox.run import run_python\n"
        f"run_python('import time; time.sleep(1000)', wall=1000, backend={way!r})"
    )
    asking = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)}
    )
    deadline = time.monotonic() + 60
    children: list[psutil.Process] = []
    while not any("confine" in " ".join(child.cmdline()) for child in children):
        assert time.monotonic() < deadline and asking.poll() is None
        time.sleep(0.05)
        children = psutil.Process(asking.pid).children(recursive=True)
    time.sleep(0.5)
    children = psutil.Process(asking.pid).children(recursive=True)
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert children and not alive
