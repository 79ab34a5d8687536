"""Which code runs here, as a digest of what lies on this disk.

An image carries the sources of its phase and the shared ones. What it has is what a result depends on, whatever the
checkout held that a pipeline was submitted from. Nothing heavy is imported: compiling a pipeline computes the same
digests.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

VERSION = "0.1.0"
"""The project's version, and the tag of the images that belong to it."""

ROOT = Path(__file__).resolve().parents[3]
_IN_WHEEL = ROOT / "components" / "configs"
CONFIGS = _IN_WHEEL if _IN_WHEEL.is_dir() else ROOT / "configs"
"""The configuration's files: at the top of a checkout and of an image, inside the package where a wheel was installed."""

DIGITS = 12
"""So many hexadecimal digits stand for a digest where a person reads it."""

TASK_FOLDERS = "FORGE_TASK_FOLDERS"
"""The environment variable that names folders of tasks outside the project, parted as in PATH."""


def code_version(phase: str) -> str:
    """The project's version and a digest of the phase's and the shared code: `0.1.0+1f3a…`.

    Folders of tasks that are added from outside count: their files make other code.
    """
    digest = code_digest(("shared", phase))
    for folder in task_folders():
        files = _digest(folder, sorted(path.name for path in folder.glob("*.py")))
        digest = hashlib.sha256(f"{digest} {files}".encode()).hexdigest()
    return f"{VERSION}+{digest[:DIGITS]}"


def task_folders() -> list[Path]:
    """The folders that FORGE_TASK_FOLDERS names."""
    return [Path(folder) for folder in os.environ.get(TASK_FOLDERS, "").split(os.pathsep) if folder]


@functools.cache
def code_digest(packages: tuple[str, ...], root: Path = ROOT / "components") -> str:
    """The digest of the sources of these packages below `root`, without what only documents or compiles."""
    names = (
        path.relative_to(root).as_posix()
        for package in packages
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and path.name not in ("component.py", "README.md")
    )
    return _digest(root, (name for name in names if "__pycache__" not in name))


def _digest(root: Path, names: Iterable[str]) -> str:
    """sha256 over names and contents, in the order given."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name} {hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
