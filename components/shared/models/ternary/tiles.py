"""Products of 2-bit weights and int8 activations from the instructions that processors have for sums of products of bytes.

LLVM finds these in no loop that numba can write, so that it is given the instructions of a tile of rows × tokens, whose
sums stay in registers, and whose weights are unpacked in registers, once for all tokens of the tile. All of it is in one
file, because numba keeps what it has compiled until the file of the loops changes.

AVX-512 VNNI   vpdpbusd multiplies 64 unsigned by 64 signed bytes and adds them up by fours into 16 lanes of int32.
AVX-VNNI       The same for 32 bytes and 8 lanes.
AVX2           vpmaddubsw does so for 32, by twos, into 16 lanes of int16. Two products of a digit of at most 2 and an
               activation are −512 to 508, so 64 of these sums fit into a lane, −32768 to 32512; vpmaddwd then widens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

BYTE, SHORT, WORD = ir.IntType(8), ir.IntType(16), ir.IntType(32)
GROUP = 64
"""Bytes of 256 weights, packed as kernels.pack does it."""
PANEL = 64
"""Rows whose weights stay in the second-level cache while all tokens pass by."""

Kernel = Callable[[np.ndarray, np.ndarray, np.ndarray, int, int], None]
"""(packed (N, bytes) uint8, x (M, 4 · bytes) int8, out (M, N) int32, first row, last row): out = Σ digit · x.

All C-contiguous, rows of at most 2^23 weights (their sums are int32); of out the rows outside are left as they are."""


def call(builder: ir.IRBuilder, name: str, result: ir.Type, *values: Any) -> Any:
    """The result of an LLVM intrinsic."""
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(builder.module.declare_intrinsic(name, (), kind), values)


def vnni(builder: ir.IRBuilder, sums: Any, digits: Any, activations: Any) -> Any:
    """Lanes of int32 += products of bytes, summed by fours."""
    name = f"llvm.x86.avx512.vpdpbusd.{8 * digits.type.count}"  # of AVX-VNNI too, where there is no AVX-512
    return call(builder, name, sums.type, sums, digits, activations)


def unwidened(builder: ir.IRBuilder, sums: Any) -> Any:
    """Lanes of int32 as they are."""
    return sums


def avx2(builder: ir.IRBuilder, sums: Any, digits: Any, activations: Any) -> Any:
    """Lanes of int16 += products of bytes, summed by twos."""
    return builder.add(sums, call(builder, "llvm.x86.avx2.pmadd.ub.sw", sums.type, digits, activations))


def widened(builder: ir.IRBuilder, sums: Any) -> Any:
    """Lanes of int16, added by twos."""
    ones = ir.Constant(sums.type, [1] * sums.type.count)
    return call(builder, "llvm.x86.avx2.pmadd.wd", ir.VectorType(WORD, sums.type.count // 2), sums, ones)


@dataclass(frozen=True)
class Instructions:
    """How a processor adds up products of bytes.

    :param feature: that it needs, as LLVM calls it.
    :param bytes: of a register.
    :param lane: of a register of sums.
    :param add: (builder, sums, digits unsigned, activations signed) → sums.
    :param widen: (builder, sums) → lanes of int32.
    :param groups: of 256 weights after which a lane may be full.
    :param wide: rows of a tile of one token.
    :param square: rows and tokens of a tile of many.
    """

    feature: str
    bytes: int
    lane: ir.IntType
    add: Callable[..., Any]
    widen: Callable[..., Any]
    groups: int
    wide: int
    square: tuple[int, int]


INSTRUCTIONS = {
    "AVX-512 VNNI": Instructions("avx512vnni", 64, WORD, vnni, unwidened, 1 << 19, 8, (4, 4)),
    "AVX-VNNI": Instructions("avxvnni", 32, WORD, vnni, unwidened, 1 << 18, 4, (2, 4)),
    "AVX2": Instructions("avx2", 32, SHORT, avx2, widened, 8, 4, (2, 4)),
}


def typed(typing, name, rows, tokens, w, x, groups, out, out_step):  # type: ignore[no-untyped-def]
    """The signature of `multiply`, and the function that writes its instructions."""
    using, size = INSTRUCTIONS[name.literal_value], (rows.literal_value, tokens.literal_value)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        tile(builder, using, *size, *arguments[3:])
        return context.get_dummy_value()

    return types.void(name, rows, tokens, *[types.intp] * 5), generate


multiply: Any = intrinsic(prefer_literal=True)(typed)
"""(name, rows, tokens, w, x, groups, out, out_step) → None, for numba code.

out[t, r] = Σ digit(r, k) · x[t, k], int32, over `groups` · 256 places k. The first three are constants: the name in
INSTRUCTIONS, and the size of the tile. All else is intp: addresses of the first row, token and result, of which rows and
tokens lie one behind the other, and the bytes from one token's results to the next.
"""


def tile(
    builder: ir.IRBuilder, using: Instructions, rows: int, tokens: int, w: Any, x: Any, groups: Any, out: Any, out_step: Any
) -> None:  # fmt: skip
    """The instructions of `multiply`."""
    packed_kind = ir.VectorType(WORD, using.bytes // 4)
    byte_kind = ir.VectorType(BYTE, using.bytes)
    sums_kind = ir.VectorType(using.lane, 8 * using.bytes // using.lane.width)
    cells = [(token, row) for token in range(tokens) for row in range(rows)]

    def number(value: int) -> Any:
        return ir.Constant(w.type, value)

    def at(base: Any, step: Any, times: int) -> Any:
        return builder.add(base, builder.mul(step, number(times)))

    def loaded(address: Any, offset: int, kind: ir.Type) -> Any:
        source = builder.add(address, number(offset))
        return builder.load(builder.inttoptr(source, ir.PointerType(kind)), align=1)

    def prefetch(address: Any) -> None:
        flags = [ir.Constant(WORD, flag) for flag in (0, 3, 1)]  # to read, into the first level, data
        call(
            builder,
            "llvm.prefetch.p0",
            ir.VoidType(),
            builder.inttoptr(address, ir.PointerType(BYTE)),
            *flags,
        )

    def every(kind: ir.VectorType, value: int) -> Any:
        return ir.Constant(kind, [value] * kind.count)

    w_step, x_step = builder.mul(groups, number(GROUP)), builder.mul(groups, number(4 * GROUP))
    sums = {cell: cgutils.alloca_once_value(builder, every(sums_kind, 0)) for cell in cells}
    totals = {cell: cgutils.alloca_once_value(builder, every(packed_kind, 0)) for cell in cells}
    with cgutils.for_range_slice(builder, number(0), groups, number(using.groups), w.type) as (start, _):
        left, most = builder.sub(groups, start), number(using.groups)
        count = builder.select(builder.icmp_signed("<", left, most), left, most)
        with cgutils.for_range(builder, count, intp=w.type) as loop:
            group = builder.add(start, loop.index)
            w_rows = [at(at(w, group, GROUP), w_step, row) for row in range(rows)]
            x_rows = [at(at(x, group, 4 * GROUP), x_step, token) for token in range(tokens)]
            if tokens == 1:  # a row ends before the processor sees that it is being read
                for address in w_rows:
                    prefetch(at(address, w_step, rows))
            for first in range(0, GROUP, using.bytes):
                packed = [loaded(address, first, packed_kind) for address in w_rows]
                for part in range(4):
                    shifted = [builder.lshr(row, every(packed_kind, 2 * part)) for row in packed]
                    masked = [builder.and_(row, every(packed_kind, 0x03030303)) for row in shifted]
                    digits = [builder.bitcast(row, byte_kind) for row in masked]
                    activations = [loaded(address, GROUP * part + first, byte_kind) for address in x_rows]
                    for token, row in cells:
                        so_far = builder.load(sums[token, row])
                        so_far = using.add(builder, so_far, digits[row], activations[token])
                        builder.store(so_far, sums[token, row])
        for cell in cells:
            whole = using.widen(builder, builder.load(sums[cell]))
            builder.store(builder.add(builder.load(totals[cell]), whole), totals[cell])
            builder.store(every(sums_kind, 0), sums[cell])
    for token, row in cells:
        name = f"llvm.vector.reduce.add.v{packed_kind.count}i32"
        total = call(builder, name, WORD, builder.load(totals[token, row]))
        target = at(builder.add(out, number(4 * row)), out_step, token)
        builder.store(total, builder.inttoptr(target, ir.PointerType(WORD)))


def kernel(name: str) -> Kernel:
    """A Kernel of the tiles of INSTRUCTIONS[name]."""
    wide, (rows, width) = INSTRUCTIONS[name].wide, INSTRUCTIONS[name].square

    @njit(cache=True, nogil=True)
    def run(packed, x, out, first, last):  # type: ignore[no-untyped-def]
        tokens, step = x.shape[0], packed.shape[1]
        groups, o_step = step // GROUP, 4 * out.shape[1]
        whole = tokens - tokens % width
        for panel in range(first, last, PANEL):
            end = min(panel + PANEL, last)
            for m in range(0, whole, width):
                w, a, o = packed.ctypes.data, x.ctypes.data + 4 * m * step, out.ctypes.data + m * o_step
                even = end - (end - panel) % rows
                for n in range(panel, even, rows):
                    multiply(name, rows, width, w + n * step, a, groups, o + 4 * n, o_step)
                for n in range(even, end):
                    multiply(name, 1, width, w + n * step, a, groups, o + 4 * n, o_step)
            for m in range(whole, tokens):
                w, a, o = packed.ctypes.data, x.ctypes.data + 4 * m * step, out.ctypes.data + m * o_step
                even = end - (end - panel) % wide
                for n in range(panel, even, wide):
                    multiply(name, wide, 1, w + n * step, a, groups, o + 4 * n, o_step)
                for n in range(even, end):
                    multiply(name, 1, 1, w + n * step, a, groups, o + 4 * n, o_step)

    return run  # type: ignore[no-any-return]


FEATURES = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
KERNELS = {name: kernel(name) for name, using in INSTRUCTIONS.items() if f"+{using.feature}" in FEATURES}
