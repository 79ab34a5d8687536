"""Makes the virtual environment: every package of requirements.lock, by its hash, and this checkout, editable.

    python3 scripts/environment.py [VENV]      (make setup; the default is .venv)

uv does it: the one on PATH, else one that pip puts into the environment, else pip does it all. Which build of torch
comes is `TORCH`'s to say: `cpu`, `cuda`, or `auto` (the default), which is the CPU build where this machine is Linux
and shows no GPU. That build lies in an index of its own (`TORCH_INDEX` names a mirror), where no hash of PyPI's is
valid; where the index cannot be had PyPI's build comes, with its CUDA libraries, and a line says so beforehand.
Nothing but the standard library is imported.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PATIENCE = 5
"""Seconds that an index has to answer."""

CUDA = re.compile(r"(triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
"""What PyPI's build of torch brings and its CPU build does not need."""

GPU_ONLY = "triton"
"""Compiles kernels for GPUs; torch does without it elsewhere."""

LARGE = "PyPI's build of torch with its CUDA libraries: about 3 GB to fetch, the environment is about 6 GB"
SMALL = "the CPU build of torch: the environment is about 2 GB"


class Refused(Exception):
    """The environment cannot be made here; the text says what to do."""


def main(venv: Path) -> None:
    """Make the environment, and say how large it is and how long that took."""
    began = time.monotonic()
    entries = read_lock(LOCK.read_text())
    installer, compiled = make_venv(venv, entries["uv"])
    build, line = choose_torch(version_of(entries["torch"]))
    print(line, flush=True)
    if build == "cpu":
        run(*installer, "--no-deps", "--index-url", cpu_index(), f"torch=={version_of(entries.pop('torch'))}")
        entries = {name: entry for name, entry in entries.items() if not CUDA.match(entry)}
    elif not has_gpu():
        entries.pop(GPU_ONLY, None)
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text("\n".join(entries.values()))
        run(*installer, *compiled, "--no-deps", "--require-hashes", "--requirement", requirements)
    run(*installer, "--no-deps", "--no-build-isolation", "--editable", ROOT)
    run(python_of(venv), "-m", "compileall", "-q", ROOT / "components", ROOT / "pipelines")
    seconds = time.monotonic() - began
    print(f"{venv} is ready: {size(venv) / 1e9:.1f} GB, made in {seconds // 60:.0f} min {seconds % 60:.0f} s")


def read_lock(text: str) -> dict[str, str]:
    """Name → entry, its marker and hashes included; names that a marker splits over two entries keep both."""
    entries: dict[str, str] = {}
    for entry in re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip()):
        name = entry.partition("==")[0]
        entries[name] = f"{entries[name]}\n{entry}" if name in entries else entry
    return entries


def version_of(entry: str) -> str:
    """`2.13.0` of `torch==2.13.0 ; … --hash=…`."""
    return re.split(r"[\s;\\]", entry.partition("==")[2], maxsplit=1)[0]


def make_venv(venv: Path, uv: str) -> tuple[list[str | Path], list[str]]:
    """An empty environment; the command that installs into it, and its option to compile what is there to bytecode.

    :param uv: the lock's entry for uv.
    :raises Refused: this Python cannot make environments.
    """
    python = python_of(venv)
    into: list[str | Path] = ["pip", "install", "--quiet", "--python", python]
    if uv_on_path := shutil.which("uv"):
        if not python.exists():
            run(uv_on_path, "venv", "--quiet", "--python", sys.executable, venv)
        return [uv_on_path, *into], ["--compile-bytecode"]
    try:
        run(sys.executable, "-m", "venv", venv)
    except subprocess.CalledProcessError:
        raise Refused(
            "this Python makes no environments: apt-get install python3-venv, or install uv"
        ) from None
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "uv.txt")
        requirements.write_text(uv)
        try:
            run(*pip, "--no-deps", "--require-hashes", "--requirement", requirements)
        except subprocess.CalledProcessError:
            print("uv cannot be had: pip installs, which takes longer", flush=True)
            return pip, []
    return [python, "-m", "uv", *into], ["--compile-bytecode"]


def choose_torch(version: str) -> tuple[str, str]:
    """`cpu` or `cuda`, and the line that says what comes, how large it is and why.

    :raises Refused: TORCH is none of auto, cpu and cuda, or it is cpu and no index offers that.
    """
    choice = os.environ.get("TORCH") or "auto"
    if choice not in ("auto", "cpu", "cuda"):
        raise Refused(f"TORCH is {choice!r}, and has to be auto, cpu or cuda")
    if not sys.platform.startswith("linux"):
        return "cuda", "torch as PyPI has it for this system"
    if choice == "cuda" or (choice == "auto" and has_gpu()):
        return "cuda", LARGE
    problem = missing_from(cpu_index(), version)
    if problem and choice == "cpu":
        raise Refused(f"{problem}; TORCH_INDEX names another index of torch's CPU builds")
    return ("cuda", f"{LARGE} ({problem})") if problem else ("cpu", SMALL)


def cpu_index() -> str:
    """The index of torch's CPU builds."""
    return os.environ.get("TORCH_INDEX") or CPU_INDEX


def has_gpu() -> bool:
    """Whether the driver of a CUDA GPU is loaded."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def missing_from(index: str, version: str) -> str:
    """Why `index` does not offer this version of torch; "" where it does."""
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=PATIENCE) as page:
            text = page.read().decode(errors="replace")
    except (OSError, ValueError) as error:
        return f"{index} does not answer: {getattr(error, 'reason', error)}"
    offered = re.search(rf"torch-{re.escape(version)}(\+|%2B)cpu", text)
    return "" if offered else f"{index} has none of torch {version}"


def python_of(venv: Path) -> Path:
    """The environment's Python."""
    return venv / "bin" / "python"


def size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def run(*command: str | Path) -> None:
    """A command that has to succeed."""
    subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".venv").absolute())
    except Refused as refusal:
        sys.exit(str(refusal))
    except subprocess.CalledProcessError as error:
        sys.exit(f"failed ({error.returncode}): {' '.join(error.cmd[:6])} …")
