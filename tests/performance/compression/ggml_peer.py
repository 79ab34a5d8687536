"""ggml's quantisers on some matrices. Runs where ggml-python is installed, beside rd_gap.py, with numpy alone.

    PEER_PYTHON tests/performance/compression/ggml_peer.py WEIGHTS.npz DECODED.npz

WEIGHTS: by name (rows, columns) float32, columns a multiple of 256. DECODED: under "name type" the decoded weights, and
"facts", a JSON text {"name type": [bytes, CPU seconds to encode, CPU seconds to decode], "version": …}. Every type is tried
without an importance matrix, where it allows that, and with one of ones: the better is kept.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import sys
import time

import ggml
import numpy as np

TYPES = (
    "IQ1_S",
    "IQ2_XXS",
    "IQ2_S",
    "IQ3_XXS",
    "IQ3_S",
    "IQ4_XS",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_0",
)


def floats(array: np.ndarray) -> ctypes._Pointer:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def through(kind: int, w: np.ndarray, importance: np.ndarray | None) -> tuple[np.ndarray, list[float]]:
    """Encoded and decoded → the weights, and bytes, seconds to encode, seconds to decode."""
    rows, columns = w.shape
    code, out = np.zeros(ggml.ggml_row_size(kind, columns) * rows, np.uint8), np.zeros_like(w)
    stored = code.ctypes.data_as(ctypes.c_void_p)
    began = time.process_time()
    used = ggml.ggml_quantize_chunk(
        kind, floats(w), stored, 0, rows, columns, None if importance is None else floats(importance)
    )
    encoded = time.process_time()
    ggml.ggml_get_type_traits(kind).contents.to_float(stored, floats(out), w.size)
    return out, [int(used), encoded - began, time.process_time() - encoded]


if __name__ == "__main__":
    decoded, facts = {}, {"version": importlib.metadata.version("ggml-python")}
    with np.load(sys.argv[1]) as given:
        for name in TYPES:
            kind = getattr(ggml, f"GGML_TYPE_{name}")
            ggml.ggml_quantize_init(kind)
            for label in given.files:
                w = np.ascontiguousarray(given[label])
                ways = [np.ones(w.shape[1], np.float32)]
                if not ggml.ggml_quantize_requires_imatrix(kind):
                    ways.append(None)
                results = [through(kind, w, way) for way in ways]
                best = min(results, key=lambda result: float(((result[0] - w) ** 2).sum()))
                decoded[f"{label} {name}"], facts[f"{label} {name}"] = best
    np.savez(sys.argv[2], facts=json.dumps(facts), **decoded)
