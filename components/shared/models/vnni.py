"""A tile of a product of 2-bit weights and int8 activations, in AVX-512 VNNI.

vpdpbusd multiplies 64 unsigned by 64 signed bytes and adds them up by fours into 16 int32 lanes: exact, as long as a
lane stays below 2^31, which takes rows of more than 30 million weights to reach. LLVM finds this instruction in no loop
that numba can write, so the tile is given to it as instructions. Rows' digits are unpacked in registers, once for all
tokens of the tile; `rows` × `tokens` accumulators stay in registers too.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

AVAILABLE = bool(llvm.get_host_cpu_features().get("avx512vnni"))
BYTE, WORD = ir.IntType(8), ir.IntType(32)
LANES = ir.VectorType(WORD, 16)
BYTES = ir.VectorType(BYTE, 64)
PANEL = 64
"""Rows whose weights stay in the second-level cache while all tokens pass by."""


def tile(rows: int, tokens: int) -> Any:
    """An intrinsic for numba code: f(w, w_step, x, x_step, groups, out, out_step) → None.

    out[t, r] = Σ digit(r, k) · x[t, k], int32, over `groups` · 256 places k. All arguments are intp: addresses of the
    first row, token and result, and the bytes from one to the next. Rows are packed as ternary_kernels.pack does it.
    """

    @intrinsic
    def multiply(typing, w, w_step, x, x_step, groups, out, out_step):  # type: ignore[no-untyped-def]
        return types.void(*[types.intp] * 7), generate

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        w, w_step, x, x_step, groups, out, out_step = arguments
        kind = ir.FunctionType(LANES, (LANES, BYTES, BYTES))
        dot = builder.module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.512", (), kind)
        add = builder.module.declare_intrinsic(
            "llvm.vector.reduce.add.v16i32", (), ir.FunctionType(WORD, (LANES,))
        )
        masks = ir.Constant(LANES, [0x03030303] * 16)
        zero = ir.Constant(LANES, [0] * 16)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(rows)] for _ in range(tokens)]

        def at(base: Any, step: Any, number: int) -> Any:
            return builder.add(base, builder.mul(step, ir.Constant(base.type, number)))

        def loaded(address: Any, kind: ir.Type) -> Any:
            return builder.load(builder.inttoptr(address, ir.PointerType(kind)), align=1)

        with cgutils.for_range(builder, groups, intp=groups.type) as loop:
            w_here = builder.add(w, builder.mul(loop.index, ir.Constant(w.type, 64)))
            x_here = builder.add(x, builder.mul(loop.index, ir.Constant(x.type, 256)))
            packed = [loaded(at(w_here, w_step, row), LANES) for row in range(rows)]
            for part in range(4):
                shift = ir.Constant(LANES, [2 * part] * 16)
                digits = [
                    builder.bitcast(builder.and_(builder.lshr(row, shift), masks), BYTES) for row in packed
                ]
                for token in range(tokens):
                    place = builder.add(at(x_here, x_step, token), ir.Constant(x.type, 64 * part))
                    activations = loaded(place, BYTES)
                    for row in range(rows):
                        so_far = builder.load(sums[token][row])
                        builder.store(builder.call(dot, (so_far, digits[row], activations)), sums[token][row])
        for token in range(tokens):
            for row in range(rows):
                place = builder.add(at(out, out_step, token), ir.Constant(out.type, 4 * row))
                total = builder.call(add, (builder.load(sums[token][row]),))
                builder.store(total, builder.inttoptr(place, ir.PointerType(WORD)))
        return context.get_dummy_value()

    return multiply


WIDE, SQUARE, SINGLE = tile(8, 1), tile(4, 4), tile(1, 1)


@njit(cache=True, nogil=True)
def run(packed, x, out, first, last):  # type: ignore[no-untyped-def]
    """out = Σ digit · x for the rows from `first` to `last`: a Kernel of ternary_kernels.py."""
    groups, tokens = packed.shape[1] // 64, x.shape[0]
    w, w_step = packed.ctypes.data, packed.strides[0]
    a, a_step = x.ctypes.data, x.strides[0]
    o, o_step = out.ctypes.data, out.strides[0]
    for panel in range(first, last, PANEL):
        end = min(panel + PANEL, last)
        for m in range(0, tokens - tokens % 4, 4):
            a_here, o_here = a + m * a_step, o + m * o_step
            for n in range(panel, end - (end - panel) % 4, 4):
                SQUARE(w + n * w_step, w_step, a_here, a_step, groups, o_here + 4 * n, o_step)
            for n in range(end - (end - panel) % 4, end):
                for t in range(4):
                    SINGLE(w + n * w_step, 0, a_here + t * a_step, 0, groups, o_here + t * o_step + 4 * n, 0)
        for m in range(tokens - tokens % 4, tokens):
            a_here, o_here = a + m * a_step, o + m * o_step
            for n in range(panel, end - (end - panel) % 8, 8):
                WIDE(w + n * w_step, w_step, a_here, 0, groups, o_here + 4 * n, 0)
            for n in range(end - (end - panel) % 8, end):
                SINGLE(w + n * w_step, 0, a_here, 0, groups, o_here + 4 * n, 0)
