"""What a model's bytes are spent on, tensor by tensor, read from its files' headers and its manifest."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from components.shared.runtime.artifact.artifact import MANIFEST
from components.shared.runtime.artifact.weights import describe, storage
from components.shared.runtime.errors import ArtifactError


@dataclass(frozen=True)
class Row:
    """One stored tensor.

    `code`: its codec, or its dtype. `error`: of its layer's output, squared, a token, where the phase that coded it has
    measured it.
    """

    tensor: str
    shape: tuple[int, ...]
    code: str
    bytes: int
    error: float | None

    @property
    def bits(self) -> float:
        """A weight."""
        return 8 * self.bytes / max(math.prod(self.shape), 1)


@dataclass(frozen=True)
class Inspection:
    """All stored tensors; bytes of the directory without its manifest; parameters that the model computes with."""

    rows: list[Row]
    bytes: int
    parameters: int

    @property
    def by_code(self) -> dict[str, tuple[int, int, int]]:
        """Code → tensors, weights, bytes; the most bytes first."""
        totals: dict[str, tuple[int, int, int]] = {}
        for row in self.rows:
            tensors, weights, size = totals.get(row.code, (0, 0, 0))
            totals[row.code] = tensors + 1, weights + math.prod(row.shape), size + row.bytes
        return dict(sorted(totals.items(), key=lambda item: -item[1][2]))

    @property
    def times_smaller(self) -> float:
        """Than its parameters in float32."""
        return 4 * self.parameters / self.bytes


def inspect(folder: Path) -> Inspection:
    """The model in `folder`.

    :raises ArtifactError: there is none.
    """
    tensors, parameters = describe(folder)
    if not tensors:
        raise ArtifactError(
            "there is no model here",
            where=str(folder),
            why="no model*.safetensors",
            fix="give the folder of an artifact or of a Hugging Face model",
        )
    coded, measured = storage(folder), _measured(folder)
    rows = []
    for name, entry in tensors.items():
        module = name.rpartition(".")[0]
        spec = coded.get(module, {}) if name.endswith(".code") else {}
        totals = measured.get(module, {}) if spec else {}
        shape = tuple(spec.get("shape", entry["shape"]))
        code = str(totals.get("code") or entry["codec"] or entry["dtype"])
        rows.append(Row(module if spec else name, shape, code, entry["bytes"], totals.get("error")))
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != MANIFEST)
    return Inspection(rows, sum(file.stat().st_size for file in files), parameters)


def _measured(folder: Path) -> dict[str, dict]:
    """What phase compression has left in the manifest: tensor → its row."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return {}
    try:
        sizes = json.loads(manifest.read_text())["extra"]["sizes"]
        return {row["tensor"]: row for row in sizes["per_tensor"]}
    except (ValueError, TypeError, LookupError, RecursionError):  # of another phase, or damaged
        return {}
