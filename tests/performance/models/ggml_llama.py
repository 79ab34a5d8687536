"""One token through a ternary Llama as a graph of ggml, one thread. Runs where ggml-python is installed.

    PYTHON ggml_llama.py WEIGHTS.npz HEADS KV_HEADS EPS LENGTH

WEIGHTS: by "layer.name" trits (rows, columns) int8 and by "layer.name scale" their scale; by "layer.first", "layer.second"
and "norm" the gains of the norms; `embedding` (vocabulary, hidden), which is the head too. It prints the version and, of
each way of storing the matrices, the logits' correlation with `logits`, those of token 1 at place 0. Then, for each line
on standard input, a way and a number, a JSON list of the CPU seconds of so many tokens, with a cache of LENGTH.

ggml's ternary type holds 256 weights a block. Matrices whose rows are no whole blocks are either filled up with zeros, or
are Q4_0, as llama.cpp's own quantisation stores them. Embedding and head are float16, keys and values too. What is around
the products is what llama.cpp computes of a Llama; a token that is drawn, and all of Python's, is left out.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import sys
import time
from typing import Any

import ggml
import numpy as np

BLOCK = 256
WAYS = {"TQ2_0, rows filled up": None, "TQ2_0 and Q4_0": ggml.GGML_TYPE_Q4_0}
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")


class Token:
    """A graph of one token at the last place of a cache of `length`."""

    def __init__(self, given: Any, way: str, heads: int, kv_heads: int, eps: float, length: int) -> None:
        self.given, self.other = given, WAYS[way]
        parameters = ggml.ggml_init_params(mem_size=1 << 30, mem_buffer=None, no_alloc=False)
        self.context = c = ggml.ggml_init(parameters)
        self.head = self.tensor(given["embedding"], ggml.GGML_TYPE_F16)
        hidden = given["embedding"].shape[1]
        size, layers = hidden // heads, sum(name.endswith("q_proj") for name in given)
        width = size * kv_heads
        self.graph = ggml.ggml_new_graph_custom(c, 4096, False)
        place, token = (self.number(value) for value in (length - 1, 1))
        x = ggml.ggml_get_rows(c, self.head, token)
        for layer in range(layers):
            h = self.normed(x, given[f"{layer}.first"], eps)
            q, k, v = (self.product(layer, name, h) for name in ATTENTION[:3])
            q, k = (
                ggml.ggml_rope(c, ggml.ggml_reshape_3d(c, each, size, count, 1), place, size, ggml.GGML_ROPE_TYPE_NEOX)
                for each, count in ((q, heads), (k, kv_heads))
            )  # fmt: skip
            keys, values = (ggml.ggml_new_tensor_1d(c, ggml.GGML_TYPE_F16, width * length) for _ in range(2))
            for cache in (keys, values):
                ctypes.memset(ggml.ggml_get_data(cache), 0, ggml.ggml_nbytes(cache))
            into = ggml.ggml_view_1d(c, keys, width, 2 * width * (length - 1))
            self.compute(ggml.ggml_cpy(c, ggml.ggml_reshape_2d(c, k, width, 1), into))
            into = ggml.ggml_view_2d(c, values, 1, width, 2 * length, 2 * (length - 1))
            self.compute(ggml.ggml_cpy(c, ggml.ggml_transpose(c, ggml.ggml_reshape_2d(c, v, width, 1)), into))
            keys = ggml.ggml_view_3d(c, keys, size, length, kv_heads, 2 * width, 2 * size, 0)
            scores = ggml.ggml_mul_mat(c, keys, ggml.ggml_permute(c, q, 0, 2, 1, 3))
            scores = ggml.ggml_soft_max_ext(c, scores, None, size**-0.5, 0.0)
            values = ggml.ggml_view_3d(c, values, length, size, kv_heads, 2 * length, 2 * length * size, 0)
            said = ggml.ggml_permute(c, ggml.ggml_mul_mat(c, values, scores), 0, 2, 1, 3)
            x = ggml.ggml_add(c, x, self.product(layer, "o_proj", ggml.ggml_cont_2d(c, said, hidden, 1)))
            h = self.normed(x, given[f"{layer}.second"], eps)
            gate, up = (self.product(layer, name, h) for name in MLP[:2])
            x = ggml.ggml_add(c, x, self.product(layer, "down_proj", ggml.ggml_swiglu_split(c, gate, up)))
        self.logits = ggml.ggml_mul_mat(c, self.head, self.normed(x, given["norm"], eps))
        self.compute(self.logits)
        self.plan = ggml.ggml_graph_plan(self.graph, 1, None)
        self.work = (ctypes.c_uint8 * max(1, self.plan.work_size))()
        self.plan.work_data = ctypes.cast(self.work, ctypes.POINTER(ctypes.c_uint8))

    def compute(self, tensor: Any) -> None:
        ggml.ggml_build_forward_expand(self.graph, tensor)

    def number(self, value: int) -> Any:
        return ggml.ggml_set_i32(ggml.ggml_new_tensor_1d(self.context, ggml.GGML_TYPE_I32, 1), value)

    def tensor(self, values: np.ndarray, kind: int) -> Any:
        """A matrix in a type of ggml, or a vector in float32."""
        if kind == ggml.GGML_TYPE_F16:
            code = np.ascontiguousarray(values, np.float16)
        elif values.ndim == 1:
            code = np.ascontiguousarray(values, np.float32)
        else:
            rows, columns = values.shape
            code = np.zeros(rows * ggml.ggml_row_size(kind, columns), np.uint8)
            source = np.ascontiguousarray(values, np.float32)
            floats = source.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            ggml.ggml_quantize_chunk(kind, floats, ctypes.c_void_p(code.ctypes.data), 0, rows, columns, None)
        new = (
            ggml.ggml_new_tensor_1d(self.context, kind, values.size)
            if values.ndim == 1
            else ggml.ggml_new_tensor_2d(self.context, kind, values.shape[1], values.shape[0])
        )
        ctypes.memmove(ggml.ggml_get_data(new), code.ctypes.data, code.nbytes)
        return new

    def normed(self, x: Any, gain: np.ndarray, eps: float) -> Any:
        c = self.context
        return ggml.ggml_mul(c, ggml.ggml_rms_norm(c, x, eps), self.tensor(gain, ggml.GGML_TYPE_F32))

    def product(self, layer: int, name: str, x: Any) -> Any:
        w = self.given[f"{layer}.{name}"] * np.float32(self.given[f"{layer}.{name} scale"])
        kind, rest = ggml.GGML_TYPE_TQ2_0, -w.shape[1] % BLOCK
        if rest and self.other is not None:
            kind = self.other
        elif rest:
            w = np.pad(w, ((0, 0), (0, rest)))
            x = ggml.ggml_pad(self.context, x, rest, 0, 0, 0)
        return ggml.ggml_mul_mat(self.context, self.tensor(w, kind), x)

    def seconds(self, tokens: int) -> list[float]:
        found = []
        for _ in range(tokens):
            began = time.process_time()
            ggml.ggml_graph_compute(self.graph, ctypes.byref(self.plan))
            found.append(time.process_time() - began)
        return found

    def said(self) -> np.ndarray:
        """The logits."""
        self.seconds(1)
        out = np.empty(len(self.given["embedding"]), np.float32)
        ctypes.memmove(out.ctypes.data, ggml.ggml_get_data(self.logits), out.nbytes)
        return out


def main() -> None:
    file, heads, kv_heads, eps, length = sys.argv[1:]
    ggml.ggml_cpu_init()
    with np.load(file) as stored:
        given = {name: stored[name] for name in stored.files}
    numbers = (int(heads), int(kv_heads), float(eps))
    alike = {way: np.corrcoef(Token(given, way, *numbers, 1).said(), given["logits"])[0, 1] for way in WAYS}
    print(json.dumps({"version": importlib.metadata.version("ggml-python"), "alike": alike}), flush=True)
    graphs = {way: Token(given, way, *numbers, int(length)) for way in WAYS}
    for line in sys.stdin:
        way, _, tokens = line.strip().rpartition(" ")
        print(json.dumps(graphs[way].seconds(int(tokens))), flush=True)


if __name__ == "__main__":
    main()
