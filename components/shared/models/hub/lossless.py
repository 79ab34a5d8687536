"""How the code of a weight is kept as bytes: a checked frame of parts, and lossless packing of integer symbols.

Frame: ``b"AF"`` · codec u8 · version u8 · CRC-32 u32 over codec, version and all that follows · the parts, each a
varint length and its bytes. Everything is little-endian and integer, so any platform reads the same weights. A frame
that was cut or altered anywhere is refused with a `CodeError`.

Symbols in [0, size) are kept in the smaller of two forms, named by the first byte of the part:
0 – fixed width, ⌈log2 size⌉ bits each;
1 – rANS (Duda, arXiv 1311.2540; the range variant) with static frequencies, interleaved over lanes so that numpy
    decodes one step of all lanes at a time. Small alphabets are coded in groups (five trits, four 2-bit, two 4-bit
    symbols at once) under the product of the single frequencies: fewer steps, and a table of `size` numbers only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np

MAGIC = b"AF"
SCALE = 16  # rANS: frequencies sum to 2^16
LOW = 24  # rANS: states live in [2^24, 2^40) and are refilled by 16-bit words
GROUPS = {2: 5, 3: 5, 4: 4, 5: 3, 6: 3}  # symbols coded at once, by alphabet size; two up to 16, else one
LARGEST = 4096  # alphabets beyond this have no frequency table


class CodeError(ValueError):
    """The bytes are not a whole, unaltered code of the kind asked for."""


def numbers(values: Iterable[int]) -> bytes:
    """Non-negative integers as LEB128 varints."""
    out = bytearray()
    for value in values:
        value = int(value)
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def read_numbers(data: bytes, count: int | None = None) -> tuple[list[int], int]:
    """`count` varints (all there are, without) from the start of `data`; also where they end."""
    values: list[int] = []
    at = value = shift = 0
    while len(values) != count and at < len(data):
        value |= (data[at] & 127) << shift
        shift += 7
        if data[at] < 128:
            values.append(value)
            value = shift = 0
        at += 1
    if shift or (count is not None and len(values) != count):
        raise CodeError("a code ends in the middle of a number: it was cut short; fetch the artifact again")
    return values, at


def frame(codec: int, version: int, parts: Iterable[bytes]) -> bytes:
    """Seal `parts` under a codec number and the version of its format."""
    body = b"".join(numbers([len(part)]) + part for part in parts)
    head = bytes([codec, version])
    return MAGIC + head + struct.pack("<I", zlib.crc32(head + body)) + body


def unframe(data: bytes, codec: int, version: int) -> list[bytes]:
    """The parts of a frame of this codec and version; CodeError for anything else."""
    if len(data) < 8 or data[:2] != MAGIC:
        raise CodeError(f"not a coded weight: {len(data)} bytes that do not start with {MAGIC!r}")
    if zlib.crc32(data[2:4] + data[8:]) != struct.unpack("<I", data[4:8])[0]:
        raise CodeError(
            "a coded weight does not match its checksum: it was cut or altered; fetch the artifact again"
        )
    if (data[2], data[3]) != (codec, version):
        raise CodeError(
            f"a code of codec {data[2]} version {data[3]}, where {codec} version {version} is read here"
        )
    parts, at = [], 8
    while at < len(data):
        (length,), used = read_numbers(data[at : at + 10], 1)
        parts.append(data[at + used : at + used + length])
        at += used + length
    return parts


def width(size: int) -> int:
    """Bits of one symbol of an alphabet of `size`."""
    return max(size - 1, 0).bit_length()


def dtype_of(size: int) -> type[np.unsignedinteger]:
    return np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32


def pack(symbols: np.ndarray, size: int) -> bytes:
    """Symbols (n,) of integers in [0, size) → bytes; the count and the size are not kept: the caller knows them."""
    symbols = np.ascontiguousarray(symbols).reshape(-1).astype(np.int64)
    if symbols.size and (symbols.min() < 0 or symbols.max() >= size):
        raise ValueError(f"symbols {symbols.min()}…{symbols.max()} outside the alphabet [0, {size})")
    fixed = b"\0" + pack_fixed(symbols, width(size))
    if symbols.size < 32 or not 2 <= size <= LARGEST:
        return fixed
    return min(fixed, b"\1" + pack_rans(symbols, size), key=len)


def unpack(part: bytes, count: int, size: int) -> np.ndarray:
    """The inverse of `pack`: (count,) symbols in the smallest unsigned dtype that holds the alphabet."""
    if part[:1] == b"\0":
        return unpack_fixed(part[1:], count, width(size)).astype(dtype_of(size))
    if part[:1] == b"\1":
        return unpack_rans(part[1:], count, size).astype(dtype_of(size))
    raise CodeError(f"symbols packed by an unknown method {part[:1]!r}")


def pack_fixed(symbols: np.ndarray, bits: int) -> bytes:
    """(n,) integers → ⌈n·bits/8⌉ bytes, lowest bit first; eight symbols fill `bits` bytes."""
    if bits in (8, 16, 32):
        return symbols.astype(f"<u{bits // 8}").tobytes()
    step = 1 << 16  # a multiple of 8, so that pieces join at byte borders
    pieces = [(symbols[i : i + step, None] >> np.arange(bits)) & 1 for i in range(0, len(symbols), step)]
    return b"".join(np.packbits(piece.astype(np.uint8), bitorder="little").tobytes() for piece in pieces)


def unpack_fixed(data: bytes, count: int, bits: int) -> np.ndarray:
    if len(data) != -(-count * bits // 8):
        raise CodeError(
            f"{len(data)} bytes where {count} symbols of {bits} bits take {-(-count * bits // 8)}"
        )
    if bits in (8, 16, 32):
        return np.frombuffer(data, f"<u{bits // 8}")
    out = np.zeros(count, np.uint32)
    step = 1 << 16
    for i in range(0, count if bits else 0, step):
        n = min(step, count - i)
        piece = np.frombuffer(data, np.uint8, -(-n * bits // 8), i * bits // 8)
        flags = np.unpackbits(piece, count=n * bits, bitorder="little").reshape(n, bits)
        out[i : i + n] = flags @ (np.uint32(1) << np.arange(bits, dtype=np.uint32))
    return out


def group_of(size: int) -> int:
    return GROUPS.get(size, 2 if size <= 16 else 1)


def frequencies(counts: np.ndarray, total: int) -> np.ndarray:
    """Counts → integers that sum to `total`; whatever occurs keeps at least 1 (so at most `total` symbols occur)."""
    share = counts * total // max(int(counts.sum()), 1)
    out = np.where(counts > 0, np.maximum(share, 1), 0)
    largest = int(np.argmax(out))
    rest = total - int(out.sum())
    if 2 * (out[largest] + rest) < out[largest]:  # too many rare symbols for the largest one to pay for
        present = counts > 0
        out = np.where(present, 1 + counts * (total - int(present.sum())) // int(counts.sum()), 0)
        rest = total - int(out.sum())
    out[largest] += rest
    return out


def group_frequencies(single: np.ndarray, group: int) -> np.ndarray:
    """(size,) summing to 2^12 → (size**group,) summing to 2^16: every group's product of its symbols' frequencies."""
    product = np.ones(1, np.int64)
    for _ in range(group):
        product = (product[:, None] * single).reshape(-1)
    shift = max(12 * group - 32, 0)  # products have up to 60 bits: leave `frequencies` room to multiply
    return frequencies(np.where(product > 0, np.maximum(product >> shift, 1), 0), 1 << SCALE)


def table(single: np.ndarray, size: int) -> np.ndarray:
    """The frequencies that are coded with: of groups, or of single symbols of a large alphabet."""
    return group_frequencies(single, group_of(size)) if size <= 256 else single


def pack_rans(symbols: np.ndarray, size: int) -> bytes:
    """varints (log2 lanes, the `size` frequencies) · states, 5 bytes a lane · 16-bit words."""
    group = group_of(size)
    counts = np.bincount(symbols, minlength=size)
    single = frequencies(counts, 1 << (12 if size <= 256 else SCALE))
    padding = np.full(-len(symbols) % group, np.argmax(counts))
    grouped = np.concatenate([symbols, padding]).reshape(-1, group) @ size ** np.arange(group)[::-1]
    frequency = table(single, size).astype(np.uint64)
    start = np.cumsum(frequency) - frequency
    doublings = min(
        (len(grouped) >> 11 | 1).bit_length() - 1, 12
    )  # 2048 steps and more: a lane's state costs 3 bytes
    lanes = 1 << doublings
    state = np.full(lanes, 1 << LOW, np.uint64)
    words: list[np.ndarray] = []
    for at in range((len(grouped) - 1) // lanes * lanes, -1, -lanes):
        s = grouped[at : at + lanes]
        x, f = state[: len(s)], frequency[s]
        spill = x >= f << np.uint64(LOW)
        words.append(x[spill].astype("<u2"))
        x = np.where(spill, x >> np.uint64(16), x)
        state[: len(s)] = ((x // f) << np.uint64(SCALE)) + x % f + start[s]
    states = state.astype("<u8").view(np.uint8).reshape(lanes, 8)[:, :5]
    return (
        numbers([doublings, *single])
        + states.tobytes()
        + b"".join(word.tobytes() for word in reversed(words))
    )


def unpack_rans(data: bytes, count: int, size: int) -> np.ndarray:
    (doublings, *single), at = read_numbers(data, 1 + size)
    lanes = 1 << min(doublings, 12)
    if (
        len(data) < at + 5 * lanes
        or (len(data) - at - 5 * lanes) % 2
        or sum(single) not in (1 << 12, 1 << SCALE)
    ):
        raise CodeError(
            "an entropy-coded part is cut short or its frequencies are damaged; fetch the artifact again"
        )
    frequency = table(np.array(single, np.int64), size)
    symbol_at = np.repeat(np.arange(len(frequency)), frequency)  # (2^16,) by slot
    frequency_at = frequency[symbol_at].astype(np.uint64)
    offset_at = (np.arange(1 << SCALE) - (np.cumsum(frequency) - frequency)[symbol_at]).astype(np.uint64)
    padded = np.zeros((lanes, 8), np.uint8)
    padded[:, :5] = np.frombuffer(data, np.uint8, 5 * lanes, at).reshape(lanes, 5)
    state = padded.view("<u8").reshape(lanes).astype(np.uint64)
    words = np.frombuffer(data, "<u2", offset=at + 5 * lanes).astype(np.uint64)
    group = group_of(size)
    groups = -(-count // group)
    slots = np.empty(groups, np.uint64)
    used = 0
    mask, scale, low, refill = np.uint64(0xFFFF), np.uint64(SCALE), np.uint64(1 << LOW), np.uint64(16)
    for at in range(0, groups, lanes):
        x = state[: groups - at]
        slot = slots[at : at + lanes]
        np.bitwise_and(x, mask, out=slot)
        x = frequency_at[slot] * (x >> scale) + offset_at[slot]
        thirsty = np.flatnonzero(x < low)
        if len(thirsty):
            if used + len(thirsty) > len(words):
                raise CodeError("an entropy-coded part ends early; fetch the artifact again")
            x[thirsty] = (x[thirsty] << refill) | words[used : used + len(thirsty)]
            used += len(thirsty)
        state[: len(x)] = x
    if used != len(words):
        raise CodeError("an entropy-coded part is longer than its symbols; fetch the artifact again")
    digits = (np.arange(len(frequency))[:, None] // size ** np.arange(group)[::-1] % size).astype(
        dtype_of(size)
    )
    return digits[symbol_at].take(slots.astype(np.int64), axis=0).reshape(-1)[:count]
