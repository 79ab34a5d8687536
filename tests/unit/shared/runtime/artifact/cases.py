"""A small artifact in two shards, and how to change its manifest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from components.shared.runtime.artifact.artifact import (
    MANIFEST,
    Manifest,
    digest_of,
    seal,
)
from components.shared.runtime.artifact.manifest import decode, encode

INDEX = "model.safetensors.index.json"


def write_model(folder: Path, value: float = 1.0) -> Path:
    """A model in two shards, with a tokenizer file in a subfolder."""
    (folder / "code").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"storage": {"b": {"codec": "ternary", "shape": [6, 5]}}}))
    (folder / "code" / "notes.txt").write_text("é")
    save_file({"a.weight": np.full((3, 4), value, np.float32)}, folder / "model-1.safetensors")
    coded = {"b.code": np.arange(6, dtype=np.uint8), "b.bias": np.zeros(6, np.float16)}
    save_file(coded, folder / "model-2.safetensors")
    places = {
        "a.weight": "model-1.safetensors",
        "b.code": "model-2.safetensors",
        "b.bias": "model-2.safetensors",
    }
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def make(folder: Path, value: float = 1.0, **known: object) -> Manifest:
    return seal(write_model(folder, value), **{"kind": "model", "phase": "cognate"} | known)  # type: ignore[arg-type]


def rewrite(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the manifest and seal it again, as somebody would who knows how."""
    manifest = dataclasses.asdict(decode((folder / MANIFEST).read_bytes(), ""))
    change(manifest)
    manifest["digest"] = digest_of(manifest["files"])
    manifest["bytes"] = sum(entry["bytes"] for entry in manifest["files"].values())
    (folder / MANIFEST).write_bytes(encode(Manifest(**manifest)))
