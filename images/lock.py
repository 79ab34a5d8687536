"""Writes every lock: requirements.lock, what `make setup` installs, and images/locks/*.txt, what the images carry.

    python images/lock.py [--upgrade | --upgrade-package NAME …]     (make lock)

All have each package's version and hashes. requirements.lock comes first, and keeps its versions where they still fit;
the images' locks have the same versions. torch comes apart from the rest, because its CPU build lies in an index of
its own: `torch-cuda.txt` is the build of PyPI with its CUDA libraries, `phase.txt` all else.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
IMAGES = Path(__file__).with_name("locks")
TORCH = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
NOT_LINUX = re.compile(r"sys_platform == '(win32|emscripten)'")
BUILD = ("setuptools", "wheel")
"""With these the packages are built that have no wheel: nothing is fetched without a hash, not for a build either."""


def main(flags: Sequence[str]) -> None:
    """Resolve the development environment, then the five sets of packages of the images.

    :param flags: options of `uv pip compile`, for requirements.lock alone.
    """
    entries = resolved(ROOT / "pyproject.toml", "--extra", "dev", *flags, output=LOCK)
    write(LOCK, entries)
    print(f"{len(entries)} packages in {LOCK.name}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    entries = locked([*project["dependencies"], *extras["adapters"], *extras["deepspeed"], "kubernetes"])
    write(IMAGES / "torch-cuda.txt", [entry for entry in entries if TORCH.match(entry)])
    write(IMAGES / "phase.txt", [entry for entry in entries if not TORCH.match(entry)])
    write(IMAGES / "forge.txt", locked((IMAGES / "forge.in").read_text().splitlines()))
    write(IMAGES / "control.txt", locked((IMAGES / "control.in").read_text().splitlines()))
    write(IMAGES / "build.txt", locked(["uv", *BUILD]))


def locked(requirements: Sequence[str]) -> list[str]:
    """The entries for these requirements on Linux, in the versions of requirements.lock."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "requirements.in")
        source.write_text("\n".join(requirements))
        entries = resolved(source, "--constraint", str(LOCK), output=Path(folder, "resolved.txt"))
    return [entry for entry in entries if not NOT_LINUX.search(entry)]


def resolved(source: Path, *options: str, output: Path) -> list[str]:
    """What uv makes of the requirements in `source`: one text for each package, its hashes included."""
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        str(source),
        "--output-file",
        str(output),
    ]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-emit-index-url", "--no-annotate", "--no-header", *options]
    subprocess.run(command, cwd=ROOT, check=True)
    lines = [line for line in output.read_text().splitlines() if not line.startswith("#")]
    return re.split(r"\n(?=[a-z])", "\n".join(lines).strip())


def write(path: Path, entries: Sequence[str]) -> None:
    """One lock."""
    heading = f"# {len(entries)} packages; written by images/lock.py (make lock)."
    path.write_text("\n".join([heading, *entries]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
