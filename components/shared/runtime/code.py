"""Which code and which configuration files run here, as digests of what lies on this disk.

An image carries the sources of its phase, the shared ones and the configuration that the phase reads. What it has
is what a result depends on, whatever the checkout held that a pipeline was submitted from. Nothing heavy is
imported: compiling a pipeline computes the same digests.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from components.shared.image import VERSION

ROOT = Path(__file__).resolve().parents[3]
_IN_WHEEL = ROOT / "components" / "configs"
CONFIGS = _IN_WHEEL if _IN_WHEEL.is_dir() else ROOT / "configs"
"""The configuration's files: at the top of a checkout and of an image, inside the package where a wheel was installed."""

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


def configs_digest(phase: str, configs: Path = CONFIGS) -> str:
    """Twelve digits of the digest of the files that the phase's settings are composed of.

    These are config.yaml, every profile and the phase's own defaults; other phases' defaults are not among them.
    """
    profiles = sorted(f"profile/{path.name}" for path in (configs / "profile").glob("*.yaml"))
    names = ["config.yaml", *profiles, f"phase/{phase}.yaml"]
    return _digest(configs, (name for name in names if (configs / name).is_file()))[:DIGITS]


def _digest(root: Path, names: Iterable[str]) -> str:
    """sha256 over names and contents, in the order given."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name} {hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
