"""The tensors of a model, from its manifest and its config.json alone: no weight is read.

A model may have a hundred thousand of them, so they come in pages, by name.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from math import prod
from typing import Any

from pydantic import BaseModel

from components.shared.runtime.artifact.manifest import Manifest
from components.shared.runtime.errors import MissingKey

from ..cache.key import Key
from ..context import Control
from .manifests import LARGEST_CONFIG, head_of, read_bounded, read_manifest, require_digest
from .paging import cursor_of, values_of

WHOLE = 3000
"""Up to so many tensors a model's table is kept whole; of a larger one each page for itself."""


class Tensor(BaseModel):
    """A weight.

    :param shape: of the weight that is computed with; `stored_shape` of what is on disk, where a code is.
    :param codec: empty where the stored numbers are the weight itself.
    :param bits: stored, a weight.
    :param error: what the code loses, as the phase that chose it has measured; None where none did.
    """

    name: str
    shape: list[int]
    stored_shape: list[int]
    dtype: str
    codec: str
    bytes: int
    bits: float | None
    error: float | None


class TensorPage(BaseModel):
    """Tensors by name, and how many there are.

    :param parameters: weights that the model computes with; `bits` is what one of them takes on disk.
    """

    tensors: list[Tensor]
    count: int
    parameters: int
    bytes: int
    bits: float | None
    next: str | None = None


async def page(
    control: Control, digest: str, address: str, *, limit: int, cursor: str, text: str
) -> TensorPage:
    """A page of a model's tensors.

    :param text: a part of the names that are wanted.
    :raises ForgeError: its manifest cannot be read, or the cursor is none of ours.
    """
    after = values_of(cursor, "tensors", str)[0] if cursor else ""
    head = await head_of(control, digest, address)
    if head["tensor_count"] > WHOLE:

        async def compute() -> dict[str, Any]:
            return await asyncio.to_thread(lambda: _page(_read(digest, address), limit, after, text))

        view = json.dumps(["tensors", limit, after, text])
        return TensorPage(**await control.cache.json(Key(digest, view), compute))

    async def whole() -> dict[str, Any]:
        return await asyncio.to_thread(_read, digest, address)

    return TensorPage(**_page(await control.cache.json(Key(digest, "tensors"), whole), limit, after, text))


def _read(digest: str, address: str) -> dict[str, Any]:
    """All tensors by name, and what they come to. Blocks."""
    manifest = require_digest(read_manifest(address), digest, address)
    coded, measured = _storage(manifest, address), _measured(manifest)
    return {
        "tensors": [_tensor(manifest, name, coded, measured) for name in sorted(manifest.tensors)],
        "parameters": manifest.parameters,
        "bytes": sum(entry["bytes"] for entry in manifest.tensors.values()),
    }


def _page(table: dict[str, Any], limit: int, after: str, text: str) -> dict[str, Any]:
    """The tensors behind `after` whose names have `text` in them."""
    rows = [row for row in table["tensors"] if text.lower() in row["name"].lower()]
    start = bisect_right(rows, after, key=lambda row: row["name"]) if after else 0
    chosen = rows[start : start + limit]
    return {
        **table,
        "tensors": chosen,
        "count": len(rows),
        "bits": 8 * table["bytes"] / table["parameters"] if table["parameters"] else None,
        "next": cursor_of("tensors", chosen[-1]["name"]) if start + limit < len(rows) else None,
    }


def _tensor(manifest: Manifest, name: str, coded: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    entry = manifest.tensors[name]
    module, _, leaf = name.rpartition(".")
    spec = coded.get(module) if entry["codec"] and leaf != "bias" else None
    shape = spec.get("shape") if isinstance(spec, dict) else None
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        shape = entry["shape"]
    weights = prod(shape)
    error = measured.get(module if entry["codec"] else name)
    return {
        "name": name,
        "shape": shape,
        "stored_shape": entry["shape"],
        "dtype": entry["dtype"],
        "codec": entry["codec"],
        "bytes": entry["bytes"],
        "bits": 8 * entry["bytes"] / weights if weights else None,
        "error": error,
    }


def _storage(manifest: Manifest, address: str) -> dict[str, Any]:
    """How coded modules are stored, as config.json says it; nothing where no tensor is coded."""
    if not any(entry["codec"] for entry in manifest.tensors.values()):
        return {}
    try:
        config = json.loads(read_bounded(address, "config.json", LARGEST_CONFIG))
        declared = config["storage"]
    except (MissingKey, ValueError, RecursionError, LookupError, TypeError):
        return {}  # a trunk or a population: its tensors have the shapes of the manifest
    return declared if isinstance(declared, dict) else {}


def _measured(manifest: Manifest) -> dict[str, float]:
    """What phase compression says of the errors of its codes, tensor by tensor."""
    sizes = manifest.extra.get("sizes")
    rows = sizes.get("per_tensor") if isinstance(sizes, dict) else None
    return {
        str(row["tensor"]): float(row["error"])
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("error"), int | float) and "tensor" in row
    }
