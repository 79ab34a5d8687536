"""How the code of a weight is kept as bytes: a checked frame of parts, and lossless packing of integer symbols. Reading.

Frame: ``b"AF"`` · codec u8 · version u8 · CRC-32 u32 over codec, version and all that follows · the parts, each a
varint length and its bytes. Everything is little-endian and integer, so any platform reads the same weights. A frame
that was cut or altered anywhere is refused with a `CodeError`.

Symbols in [0, size) are kept in the smaller of two forms, named by the first byte of the part:
0 – fixed width, ⌈log2 size⌉ bits each;
1 – rANS (Duda, arXiv 1311.2540; the range variant) with static frequencies, interleaved over lanes so that numpy
    decodes one step of all lanes at a time. Small alphabets are coded in groups (up to seven trits or two 4-bit
    symbols at once) under the product of the single frequencies: fewer steps, and a table of `size` numbers only.
"""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np

MAGIC = b"AF"
SCALE = 16  # rANS: frequencies sum to 2^16
LOW = 24  # rANS: states live in [2^24, 2^40) and are refilled by 16-bit words
COARSE = 12  # frequencies of single symbols of alphabets up to 256 sum to 2^12
LARGEST = 4096  # alphabets beyond this have no frequency table
GROUPED = 1 << 16  # a table of grouped symbols is no longer
CODE = 1 << 22  # weights that any code may hold; a larger matrix is one of slabs, and of a long row
PER_BYTE = 1 << 12  # and beyond them a byte of it


class CodeError(ValueError):
    """The bytes are not a whole, unaltered code of the kind asked for."""


def unpack_numbers(data: bytes, count: int | None = None) -> tuple[list[int], int]:
    """`count` varints (all there are, without) from the start of `data`; also where they end.

    :raises CodeError: the data ends before they do.
    """
    values: list[int] = []
    offset = value = shift = 0
    while len(values) != count and offset < len(data):
        value |= (data[offset] & 127) << shift
        shift += 7
        if data[offset] < 128:
            values.append(value)
            value = shift = 0
        offset += 1
    if shift or (count is not None and len(values) != count):
        raise CodeError("a code ends in the middle of a number: it was cut short; fetch the artifact again")
    return values, offset


def unframe(data: bytes, codec: int, version: int) -> list[bytes]:
    """The parts of a frame of this codec and version.

    :raises CodeError: no frame, one that was cut or altered, or one of another codec or version.
    """
    if len(data) < 8 or data[:2] != MAGIC:
        raise CodeError(f"not a coded weight: {len(data)} bytes that do not start with {MAGIC!r}")
    if zlib.crc32(data[2:4] + data[8:]) != struct.unpack("<I", data[4:8])[0]:
        raise CodeError("a coded weight was cut or altered: its checksum is wrong; fetch the artifact again")
    if (data[2], data[3]) != (codec, version):
        raise CodeError(
            f"a code of codec {data[2]}, version {data[3]}; {codec}, version {version} is read here"
        )
    parts, offset = [], 8
    while offset < len(data):
        (length,), used = unpack_numbers(data[offset : offset + 10], 1)
        parts.append(data[offset + used : offset + used + length])
        offset += used + length
    return parts


def count_of(shape: list[int] | tuple[int, ...], code: bytes) -> int:
    """Weights of a shape that a code declares, held against what is there: a number costs nothing to write.

    :raises CodeError: so many are not in these bytes.
    """
    count = math.prod(shape)
    if count > max(CODE, PER_BYTE * len(code)):
        raise CodeError(f"a code of {len(code)} bytes that declares the shape {shape}")
    return count


def width(size: int) -> int:
    """Bits of one symbol of an alphabet of `size`."""
    return max(size - 1, 0).bit_length()


def dtype_of(size: int) -> type[np.unsignedinteger]:
    """The smallest unsigned dtype that holds an alphabet of `size`."""
    return np.uint8 if size <= 1 << 8 else np.uint16 if size <= 1 << 16 else np.uint32


def unpack(part: bytes, count: int, size: int) -> np.ndarray:
    """The inverse of `pack`: (count,) symbols in the smallest unsigned dtype that holds the alphabet.

    :raises CodeError: they were packed by an unknown method, or are cut short, damaged or too long.
    """
    if part[:1] == b"\0":
        return unpack_fixed(part[1:], count, width(size)).astype(dtype_of(size))
    if part[:1] == b"\1":
        return unpack_rans(part[1:], count, size).astype(dtype_of(size))
    raise CodeError(f"symbols packed by an unknown method {part[:1]!r}")


def unpack_fixed(data: bytes, count: int, bits: int) -> np.ndarray:
    """The inverse of `pack_fixed`: (count,) symbols of `bits` bits each.

    :raises CodeError: there are more or fewer bytes than that takes.
    """
    if len(data) != -(-count * bits // 8):
        raise CodeError(f"{len(data)} bytes where {count} symbols take {-(-count * bits // 8)}")
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


def octaves(index: np.ndarray, fine: int) -> np.ndarray:
    """2^(index/fine) float64 for integers, fine 4 or 8; by square roots and shifts, which are exact everywhere."""
    root = np.sqrt(np.sqrt(2.0)) if fine == 4 else np.sqrt(np.sqrt(np.sqrt(2.0)))
    return np.ldexp(np.cumprod([1.0] + [root] * (fine - 1))[index % fine], index // fine)


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


def table(single: np.ndarray, group: int) -> np.ndarray:
    """Frequencies of symbols, (size,), → of groups of symbols, (size**group,), their products, summing to 2^16."""
    if group == 1 and single.sum() == 1 << SCALE:
        return single
    product = single
    for _ in range(group - 1):
        product = (product[:, None] * single).reshape(-1)
        if product.max() >= 1 << 2 * COARSE + 1:  # stay in reach of 64 bits
            product = np.where(product > 0, np.maximum(product >> COARSE, 1), 0)
    return frequencies(product, 1 << SCALE)


def read_lanes(data: bytes, lanes: int, offset: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Where an rANS coder ended: the state of each lane, five bytes each, and the 16-bit words that it shed; uint64."""
    padded = np.zeros((lanes, 8), np.uint8)
    padded[:, :5] = np.frombuffer(data, np.uint8, 5 * lanes, offset).reshape(lanes, 5)
    words = np.frombuffer(data, "<u2", offset=offset + 5 * lanes).astype(np.uint64)
    return padded.view("<u8").reshape(lanes).astype(np.uint64), words


def refill(x: np.ndarray, words: np.ndarray, used: int) -> int:
    """States below 2^LOW take the next words, in place → how many words are used by then.

    :raises CodeError: there are too few words.
    """
    low = np.flatnonzero(x < np.uint64(1 << LOW))
    if len(low):
        if used + len(low) > len(words):
            raise CodeError("an entropy-coded part ends early; fetch the artifact again")
        x[low] = (x[low] << np.uint64(16)) | words[used : used + len(low)]
    return used + len(low)


def unpack_rans(data: bytes, count: int, size: int) -> np.ndarray:
    """The inverse of `pack_rans`: (count,) symbols in [0, size).

    :raises CodeError: the part is cut short, damaged or too long.
    """
    (doublings, group, *single), offset = unpack_numbers(data, 2 + size)
    lanes = 1 << min(doublings, 12)
    whole = sum(single) == 1 << (COARSE if size <= 256 else SCALE) and 1 <= group <= 16
    whole = whole and (group == 1 or size**group <= GROUPED)
    if not whole or len(data) < offset + 5 * lanes or (len(data) - offset) % 2 != lanes % 2:
        raise CodeError("an entropy-coded part is cut short or damaged; fetch the artifact again")
    frequency = table(np.array(single, np.int64), group)
    symbol_at = np.repeat(np.arange(len(frequency)), frequency)  # (2^16,) by slot
    frequency_at = frequency[symbol_at].astype(np.uint64)
    offset_at = (np.arange(1 << SCALE) - (np.cumsum(frequency) - frequency)[symbol_at]).astype(np.uint64)
    state, words = read_lanes(data, lanes, offset)
    groups = -(-count // group)
    slots = np.empty(groups, np.uint64)
    used = 0
    mask, scale = np.uint64(0xFFFF), np.uint64(SCALE)
    for offset in range(0, groups, lanes):
        x = state[: groups - offset]
        slot = slots[offset : offset + lanes]
        np.bitwise_and(x, mask, out=slot)
        x = frequency_at[slot] * (x >> scale) + offset_at[slot]
        used = refill(x, words, used)
        state[: len(x)] = x
    if used != len(words):
        raise CodeError("an entropy-coded part is longer than its symbols; fetch the artifact again")
    digits = np.arange(len(frequency))[:, None] // size ** np.arange(group)[::-1] % size
    return digits.astype(dtype_of(size))[symbol_at].take(slots.astype(np.int64), axis=0).reshape(-1)[:count]
