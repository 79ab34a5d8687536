"""The writing side of remote_code/lossless.py: frames, fixed-width symbols and interleaved rANS."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterable

import numpy as np

from components.shared.models.remote_code.lossless import (
    COARSE,
    LARGEST,
    LOW,
    MAGIC,
    SCALE,
    frequencies,
    table,
    width,
)


def pack_numbers(values: Iterable[int]) -> bytes:
    """Non-negative integers as LEB128 varints."""
    out = bytearray()
    for value in values:
        value = int(value)
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def frame(codec: int, version: int, parts: Iterable[bytes]) -> bytes:
    """Seal `parts` under a codec number and the version of its format."""
    body = b"".join(pack_numbers([len(part)]) + part for part in parts)
    head = bytes([codec, version])
    return MAGIC + head + struct.pack("<I", zlib.crc32(head + body)) + body


def pack(symbols: np.ndarray, size: int) -> bytes:
    """Symbols (n,) of integers in [0, size) → bytes; the count and the size are not kept: the caller knows them."""
    symbols = np.ascontiguousarray(symbols).reshape(-1).astype(np.int64)
    if symbols.size and (symbols.min() < 0 or symbols.max() >= size):
        raise ValueError(f"symbols {symbols.min()}…{symbols.max()} outside the alphabet [0, {size})")
    fixed = b"\0" + pack_fixed(symbols, width(size))
    if symbols.size < 32 or not 2 <= size <= LARGEST:
        return fixed
    return min(fixed, b"\1" + pack_rans(symbols, size), key=len)


def pack_fixed(symbols: np.ndarray, bits: int) -> bytes:
    """(n,) integers → ⌈n·bits/8⌉ bytes, lowest bit first; eight symbols fill `bits` bytes."""
    if bits in (8, 16, 32):
        return symbols.astype(f"<u{bits // 8}").tobytes()
    step = 1 << 16  # a multiple of 8, so that pieces join at byte borders
    pieces = [(symbols[i : i + step, None] >> np.arange(bits)) & 1 for i in range(0, len(symbols), step)]
    return b"".join(np.packbits(piece.astype(np.uint8), bitorder="little").tobytes() for piece in pieces)


def pack_rans(symbols: np.ndarray, size: int) -> bytes:
    """Varints (log2 lanes, symbols in a group, the `size` frequencies) · states, 5 bytes a lane · 16-bit words."""
    counts = np.bincount(symbols, minlength=size)
    single = frequencies(counts, 1 << (COARSE if size <= 256 else SCALE))
    group = best_group(single)
    padding = np.full(-len(symbols) % group, np.argmax(counts))
    grouped = np.concatenate([symbols, padding]).reshape(-1, group) @ size ** np.arange(group)[::-1]
    frequency = table(single, group).astype(np.uint64)
    start = (np.cumsum(frequency) - frequency)[grouped]
    frequency = frequency[grouped]
    doublings = min(
        (len(grouped) >> 10 | 1).bit_length() - 1, 12
    )  # 1024 steps and more: a lane's state costs 3 bytes
    lanes = 1 << doublings
    state = np.full(lanes, 1 << LOW, np.uint64)
    words: list[np.ndarray] = []
    low, refill, scale = np.uint64(LOW), np.uint64(16), np.uint64(SCALE)
    for start_symbol in range((len(grouped) - 1) // lanes * lanes, -1, -lanes):
        f = frequency[start_symbol : start_symbol + lanes]
        x = state[: len(f)]
        spill = x >= f << low
        if spill.any():
            words.append(x[spill].astype("<u2"))
            x = np.where(spill, x >> refill, x)
        quotient = x // f
        state[: len(f)] = (
            (quotient << scale) + (x - quotient * f) + start[start_symbol : start_symbol + lanes]
        )
    states = state.astype("<u8").view(np.uint8).reshape(lanes, 8)[:, :5]
    head = pack_numbers([doublings, group, *single])
    return head + states.tobytes() + b"".join(word.tobytes() for word in reversed(words))


def best_group(single: np.ndarray) -> int:
    """How many symbols to code at once: the most whose table of 16-bit frequencies costs .1% over their entropy at most."""
    p = single / single.sum()
    entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
    group = 1
    while len(single) ** (group + 1) <= 2200 and group < 10:
        joint = functools.reduce(lambda a, b: np.multiply.outer(a, b).reshape(-1), [p] * (group + 1))
        positive = joint > 0
        bits = (joint[positive] * (SCALE - np.log2(table(single, group + 1)[positive]))).sum()
        if bits > 1.001 * (group + 1) * entropy + 1e-3:
            break
        group += 1
    return group
