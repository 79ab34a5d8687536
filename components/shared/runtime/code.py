"""Which code runs here, as a digest of what lies on this disk.

An image carries the sources of its phase and the shared ones. What it has is what a result depends on, whatever the
checkout held that a pipeline was submitted from. Nothing heavy is imported: compiling a pipeline computes the same
digests.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from components.shared.image import VERSION

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "configs"

DIGITS = 12
"""So many hexadecimal digits stand for a digest where a person reads it."""


def code_version(phase: str) -> str:
    """The project's version and a digest of the phase's and the shared code: `0.1.0+1f3a…`."""
    return f"{VERSION}+{code_digest(('shared', phase))[:DIGITS]}"


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
