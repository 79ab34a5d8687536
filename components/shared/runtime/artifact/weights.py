"""What a model directory's safetensors hold, read from their headers without loading a tensor.

Layout: `model.safetensors`, or shards named by `model.safetensors.index.json` (Hugging Face). Other
safetensors files (Gram matrices, populations) are data beside the model and are not counted as its weights.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..errors import ArtifactError
from .manifest import TensorEntry

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
AGAIN = "fetch the model again"
LARGEST_JSON = 64 << 20
"""Bytes of config.json and its like."""


def require_file(path: Path) -> None:
    """Refuse what reading would wait on for ever, or never end.

    :raises ArtifactError: a pipe, a device, a folder.
    """
    if path.exists() and not path.is_file():
        fix = "put the file itself there"
        raise ArtifactError("neither a file nor a link to one", where=str(path), fix=fix)


def header(path: Path) -> dict[str, dict[str, Any]]:
    """The header of a safetensors file: {tensor: {dtype, shape, data_offsets}}.

    :raises ArtifactError: not a whole safetensors file.
    """
    require_file(path)
    try:
        with safe_open(path, framework="numpy"):  # checks offsets, holes and length
            pass
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            "not a whole safetensors file", where=str(path), why=str(error), fix=AGAIN
        ) from error
    with path.open("rb") as file:
        content: dict[str, dict[str, Any]] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    content.pop("__metadata__", None)
    return content


def json_object(path: Path, *, needed: bool = True) -> dict[str, Any]:
    """What a JSON file of a model holds; nothing where it is not needed and not there.

    :raises ArtifactError: it is not there, too large, or no JSON object.
    """
    if not needed and not path.exists():
        return {}
    require_file(path)
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = f"{type(error).__name__}: {error!s:.300}"
        raise ArtifactError("not a JSON file", where=str(path), why=why, fix=AGAIN) from error
    if not isinstance(content, dict):
        why = f"it is a {type(content).__name__}"
        raise ArtifactError("not a JSON object", where=str(path), why=why, fix=AGAIN)
    return content


def headers(folder: Path) -> dict[str, dict[str, Any]]:
    """The headers of all weights in `folder`, by tensor; empty where it holds no model.

    :raises ArtifactError: a shard is missing, or holds other tensors than the index names.
    """
    index, single = folder / INDEX, folder / SINGLE
    if not index.exists():
        return header(single) if single.exists() else {}
    if single.exists():
        raise ArtifactError(f"the folder holds both {SINGLE} and {INDEX}", where=str(folder), fix="keep one")
    weight_map = json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise ArtifactError("the index of the shards has no weight_map", where=str(index), fix=AGAIN)
    tensors: dict[str, dict[str, Any]] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise ArtifactError(
                f"the index names the shard {shard!r}, which is not there", where=str(index), fix=AGAIN
            )
        in_shard = header(folder / shard)
        indexed = {tensor for tensor, file in weight_map.items() if file == shard}
        if indexed != set(in_shard):
            tensor = sorted(indexed ^ set(in_shard))[0]
            why = "named by the index only" if tensor in indexed else "in the shard only"
            raise ArtifactError(
                "the index and a shard disagree", where=f"{folder / shard}: {tensor}", why=why, fix=AGAIN
            )
        tensors |= in_shard
    return tensors


def storage(folder: Path) -> dict[str, dict[str, Any]]:
    """How coded modules are stored: {module path: {codec, shape, …}}, from `storage` in config.json.

    :raises ArtifactError: config.json is not JSON, or its `storage` is no such map.
    """
    path = folder / "config.json"
    declared = json_object(path, needed=False).get("storage")
    if declared is None:
        return {}
    if not isinstance(declared, dict):
        raise ArtifactError("`storage` is not a map from module to codec", where=str(path), fix=AGAIN)
    specs = {
        module: spec if isinstance(spec, dict) else {"codec": str(spec)} for module, spec in declared.items()
    }
    for module, spec in specs.items():
        shape: Any = spec.get("shape", [])
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise ArtifactError(
                "a shape in `storage` is no list of sizes",
                where=f"{path}: {module}",
                why=f"{shape!r:.80}",
                fix=AGAIN,
            )
    return specs


def describe(folder: Path) -> tuple[dict[str, TensorEntry], int]:
    """The stored tensors of the model in `folder`, and how many parameters it computes with.

    A coded module counts with the shape of its weight (`shape` in config.json's `storage`), not of its code.

    :returns: the tensors by name, and the number of weights.
    :raises ArtifactError: as `headers` and `storage`.
    """
    coded = storage(folder)
    tensors: dict[str, TensorEntry] = {}
    parameters = sum(math.prod(spec["shape"]) for spec in coded.values() if "shape" in spec)
    for name, entry in sorted(headers(folder).items()):
        module, _, leaf = name.rpartition(".")
        spec = coded.get(module, {}) if leaf != "bias" else {}
        start, end = entry["data_offsets"]
        tensors[name] = TensorEntry(
            dtype=entry["dtype"], shape=entry["shape"], codec=str(spec.get("codec", "")), bytes=end - start
        )
        if "shape" not in spec:
            parameters += math.prod(entry["shape"])
    return tensors, parameters
