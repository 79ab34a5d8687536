"""What a task has left for whoever looks at its run later: the manifest of its artifact, and its record."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.shared.runtime.artifact.manifest import MANIFEST, decode
from components.shared.runtime.errors import InputError


def manifest_of(artifact: Path) -> dict[str, Any]:
    """The manifest of an artifact as plain JSON; empty where there is none.

    :raises ArtifactError: it is damaged.
    """
    path = artifact / MANIFEST
    return asdict(decode(path.read_bytes(), str(path))) if path.is_file() else {}


def record(path: Path) -> dict[str, Any]:
    """What a task left in its output `metrics`.

    :raises InputError: it is no record.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        if not isinstance(content["manifest"], dict) or not isinstance(content.get("curves", []), list):
            raise TypeError("its manifest is no object, or its curves are no list")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            "this is no task's record",
            where=str(path),
            why=repr(error),
            fix="have the run go on: it makes it again",
        ) from error
    return content
