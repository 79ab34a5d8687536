"""ggml on a model's matrices: their products with activations, and there and back. Runs where ggml-python is installed.

    PYTHON ggml_model.py matmul ROWS COLUMNS TOKENS[,TOKENS…]     → JSON {"version", "TQ2_0": {tokens: ms}, …}
    PYTHON ggml_model.py round-trip TYPE IN.npz OUT.npz           → JSON {"bytes": of all together}

IN: by name a matrix (rows, columns) float32, columns a multiple of 256, and by "name importance" the weight of each of its
columns (an importance matrix). OUT: by name what ggml makes of it. One thread. Other scripts here start this one with
`--peer-python PYTHON`, of an environment of its own (`pip install ggml-python` builds it).
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import sys
import time

import ggml
import numpy as np


def quantised(kind: int, w: np.ndarray, importance: np.ndarray | None = None) -> np.ndarray:
    """The bytes of w (rows, columns) float32 in a type of ggml."""
    rows, columns = w.shape
    out = np.zeros(rows * ggml.ggml_row_size(kind, columns), np.uint8)
    floats = ctypes.POINTER(ctypes.c_float)
    ggml.ggml_quantize_init(kind)
    ggml.ggml_quantize_chunk(
        kind,
        w.ctypes.data_as(floats),
        ctypes.c_void_p(out.ctypes.data),
        0,
        rows,
        columns,
        None if importance is None else importance.ctypes.data_as(floats),
    )
    return out


def round_trip(kind: int, w: np.ndarray, importance: np.ndarray) -> tuple[np.ndarray, int]:
    """What ggml makes of w, and its bytes."""
    code, out = quantised(kind, w, importance), np.empty_like(w)
    back = ggml.ggml_get_type_traits(kind).contents.to_float
    back(ctypes.c_void_p(code.ctypes.data), out.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), w.size)
    return out, code.nbytes


def milliseconds(kind: int, w: np.ndarray, x: np.ndarray) -> float:
    """Of w (N, K) in that type times x (M, K) float32, which ggml quantises to 8 bits itself: best of many."""
    size = 64 * w.size // 8 + 16 * x.size + 8 * len(w) * len(x) + (64 << 20)
    context = ggml.ggml_init(ggml.ggml_init_params(mem_size=size, mem_buffer=None, no_alloc=False))
    a = ggml.ggml_new_tensor_2d(context, kind, w.shape[1], w.shape[0])
    b = ggml.ggml_new_tensor_2d(context, ggml.GGML_TYPE_F32, x.shape[1], x.shape[0])
    code = quantised(kind, w)
    ctypes.memmove(ggml.ggml_get_data(a), code.ctypes.data, code.nbytes)
    ctypes.memmove(ggml.ggml_get_data(b), x.ctypes.data, x.nbytes)
    y = ggml.ggml_mul_mat(context, a, b)
    graph = ggml.ggml_new_graph(context)
    ggml.ggml_build_forward_expand(graph, y)
    best = float("inf")
    for _ in range(200 if len(x) == 1 else 12):
        began = time.perf_counter()
        ggml.ggml_graph_compute_with_ctx(context, graph, 1)
        best = min(best, time.perf_counter() - began)
    found = np.empty((len(x), len(w)), np.float32)
    ctypes.memmove(found.ctypes.data, ggml.ggml_get_data(y), found.nbytes)
    wanted = x @ w.T
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max(), "not the product that was asked for"
    ggml.ggml_free(context)
    return 1000 * best


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    ggml.ggml_cpu_init()
    if task == "matmul":
        rows, columns = map(int, arguments[:2])
        rng = np.random.default_rng(0)
        w = rng.integers(-1, 2, (rows, columns)).astype(np.float32)
        answer: dict = {"version": importlib.metadata.version("ggml-python")}
        for name in ("TQ2_0", "TQ1_0"):
            answer[name] = {}
            for tokens in map(int, arguments[2].split(",")):
                x = rng.normal(size=(tokens, columns)).astype(np.float32)
                answer[name][tokens] = milliseconds(getattr(ggml, f"GGML_TYPE_{name}"), w, x)
    else:
        kind, total, decoded = getattr(ggml, f"GGML_TYPE_{arguments[0]}"), 0, {}
        with np.load(arguments[1]) as given:
            for name in given.files:
                if f"{name} importance" in given.files:
                    decoded[name], size = round_trip(kind, given[name], given[f"{name} importance"])
                    total += size
        np.savez(arguments[2], **decoded)
        answer = {"bytes": total}
    print(json.dumps(answer))
