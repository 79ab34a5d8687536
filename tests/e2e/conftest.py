"""An environment with the wheel of this checkout, where the checkout is not to be seen."""

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Installed:
    """The environment's folder."""

    folder: Path

    def run(self, *command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, with nothing in its surroundings that leads to the checkout."""
        program, *arguments = map(str, command)
        surroundings = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        return subprocess.run(
            [str(self.folder / "bin" / program), *arguments],
            cwd=cwd,
            env=surroundings | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=580,
        )


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel alone. The environment borrows the packages of this one by a path file: a folder that is named
    in one has its own path files unread, so the editable checkout of this environment is not seen.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv/bin/python"
    base = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", base))
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    packages.joinpath("borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(folder / "venv")
