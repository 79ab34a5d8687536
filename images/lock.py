"""Writes images/locks/*.txt: every package that an image carries, with version and hashes.

Versions are those of constraints.txt. torch comes apart from the rest, because its CPU build lies in an index of its
own: `torch-cuda.txt` is the build of PyPI with its CUDA libraries, `phase.txt` all else.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = Path(__file__).with_name("locks")
TORCH = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
BUILD = ("setuptools", "wheel")
"""With these the packages are built that have no wheel: nothing is fetched without a hash, not for a build either."""


def main() -> None:
    """Resolve three sets of requirements and write the four locks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = resolved(project["dependencies"])
    write("torch-cuda", [entry for entry in entries if TORCH.match(entry)])
    write("phase", [entry for entry in entries if not TORCH.match(entry)])
    write("forge", resolved((LOCKS / "forge.in").read_text().splitlines()))
    write("build", resolved(["uv", *BUILD]))


def resolved(requirements: list[str]) -> list[str]:
    """What uv makes of these requirements for Linux: one text for each package, its hashes included."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, found = Path(folder, "wanted.in"), Path(folder, "found.txt")
        wanted.write_text("\n".join(requirements))
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "--quiet",
            str(wanted),
            "--output-file",
            str(found),
        ]
        command += [
            "--constraint",
            str(ROOT / "constraints.txt"),
            "--generate-hashes",
            "--python-version",
            "3.11",
        ]
        command += ["--universal", "--no-emit-index-url", "--no-annotate", "--no-header"]
        subprocess.run(command, check=True)
        return re.split(r"\n(?=[a-z])", found.read_text().strip())


def write(name: str, entries: list[str]) -> None:
    """One lock, but for what is for other systems than Linux."""
    others = re.compile(r"sys_platform == '(win32|emscripten)'")
    ours = [entry for entry in entries if not others.search(entry)]
    text = "\n".join([f"# {len(ours)} packages; written by images/lock.py (make images-lock).", *ours])
    (LOCKS / f"{name}.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
