"""ggml's mixtures of types on a model's matrices. Runs where ggml-python is installed, for real_model.py.

    PYTHON ggml_mix.py MIX WEIGHTS_FOLDER IMPORTANCE_FOLDER|- OUT_FOLDER     → JSON {"bytes", "weights", "types"}

MIX is Q2_K, Q3_K_M, Q4_K_M or TQ2_0, for which llama.cpp's llama_tensor_get_type says which tensors get more (rules of a
Llama whose head is its embedding, fewer than four heads for each key-value head); or "pure TYPE": one type for all.
Folders hold numpy files: weights (out, in) float32, importance (in,) float32, the mean squares of a layer's inputs; names
are the modules' paths. A row whose length is no multiple of 256 has no blocks in ggml: llama.cpp falls back to larger types
there. Here blocks run on from row to row instead, which costs ggml nothing: it is the stronger peer.
"""

from __future__ import annotations

import ctypes
import json
import math
import sys
from pathlib import Path

import ggml
import numpy as np
from ggml_model import quantised

BLOCK = 256


def type_of(mix: str, path: str, layers: int) -> str:
    """The type that llama.cpp gives a tensor in a mix."""
    if mix.startswith("pure "):
        return mix.removeprefix("pure ")
    if "embed" in path:
        return "Q6_K"  # it is the head too
    layer, base = int(path.split(".layers.")[1].split(".")[0]), mix.removesuffix("_M")
    more = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    special = {
        ("Q2_K", "v_proj"): "Q3_K",
        ("Q2_K", "o_proj"): "Q3_K",
        ("Q2_K", "down_proj"): "Q3_K",
        ("Q3_K_M", "v_proj"): "Q5_K" if layer < 2 else "Q4_K",
        ("Q3_K_M", "o_proj"): "Q4_K",
        ("Q3_K_M", "down_proj"): "Q5_K" if layer < layers // 16 else "Q4_K",
        ("Q4_K_M", "v_proj"): "Q6_K" if more else "Q4_K",
        ("Q4_K_M", "down_proj"): "Q6_K" if more else "Q4_K",
    }
    return special.get((mix, path.rsplit(".", 1)[-1]), base)


def in_blocks(w: np.ndarray, importance: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """As many rows side by side as make whole blocks, and their columns' importance."""
    rows = BLOCK // math.gcd(BLOCK, w.shape[1])
    if len(w) % rows:
        raise ValueError(f"{w.shape} does not fall into blocks")
    wide = np.ascontiguousarray(w.reshape(len(w) // rows, -1), np.float32)
    return wide, None if importance is None else np.tile(importance.astype(np.float32), rows)


if __name__ == "__main__":
    mix, weights, importances, out = sys.argv[1:]
    ggml.ggml_cpu_init()
    files = sorted(Path(weights).glob("*.npy"))
    layers = 1 + max(
        int(file.stem.split(".layers.")[1].split(".")[0]) for file in files if ".layers." in file.stem
    )
    answer: dict = {"bytes": 0, "weights": 0, "types": {}}
    for file in files:
        w, name = np.load(file), type_of(mix, file.stem, layers)
        kind = getattr(ggml, f"GGML_TYPE_{name}")
        known = Path(importances, file.name)
        importance = np.load(known) if importances != "-" and known.is_file() else None
        wide, columns = in_blocks(w, importance)
        code, back = quantised(kind, wide, columns), np.empty_like(wide)
        floats = back.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        ggml.ggml_get_type_traits(kind).contents.to_float(
            ctypes.c_void_p(code.ctypes.data), floats, back.size
        )
        np.save(Path(out, file.name), back.reshape(w.shape))
        answer["bytes"] += code.nbytes
        answer["weights"] += w.size
        answer["types"][name] = answer["types"].get(name, 0) + w.size
    print(json.dumps(answer))
