"""Code that a model brings along, and whether somebody has read it and said so.

transformers knows some hundred architectures; a model of another one comes with Python files, which `auto_map` of its
config.json names. They are run only where FORGE_TRUST (`--trust` of the forge commands) holds their digest: whoever has
read the code trusts this code, and no other that may take its place. The files travel with every artifact that a phase
saves, so that the digest stays what it was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from components.shared.runtime.errors import ArtifactError

VARIABLE = "FORGE_TRUST"


def needs_code(config: Mapping[str, Any]) -> bool:
    """Whether a model is of an architecture that neither transformers nor this project knows, and names code for it."""
    return bool(config.get("auto_map")) and config.get("model_type") not in CONFIG_MAPPING


def code_of(folder: Path) -> dict[str, str]:
    """The Python files beside a model, by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}


def digest_of_code(files: Mapping[str, str]) -> str:
    """SHA-256 over names and contents."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name} {hashlib.sha256(files[name].encode()).hexdigest()}\n".encode())
    return digest.hexdigest()


def require_trust(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse code that nobody has vouched for, or that lies elsewhere.

    :param config: of a model that needs code.
    :raises ArtifactError: naming the files that would be run, and their digest.
    """
    where = str(folder / "config.json")
    kind = f"the model type {config.get('model_type')!r} needs code from its own directory, which is not run"
    references = list(_texts(config.get("auto_map")))
    if any("--" in reference for reference in references):
        raise ArtifactError(
            kind, where=where, why=f"auto_map leads to another model's folder: {references[0]}",
            fix="put its files beside the model, and name them without owner/name--",
        )  # fmt: skip
    files = code_of(folder)
    if not files:
        raise ArtifactError(
            kind,
            where=where,
            why="and no Python files lie beside it",
            fix="use an architecture that transformers knows",
        )
    digest = digest_of_code(files)
    if digest not in os.environ.get(VARIABLE, "").split(","):
        raise ArtifactError(
            kind, where=where, why=f"it would run {', '.join(files)}",
            fix=f"use an architecture that transformers knows; or read these files, and if you trust them: --trust {digest}"
            f" (by hand: {VARIABLE}={digest})",
        )  # fmt: skip


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
