"""Symbols survive packing whatever they are, cost what their entropy says, and damage is refused."""

from __future__ import annotations

import lzma

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.compression.coding.lossless import frame, pack, pack_fixed, pack_numbers, pack_rans
from components.shared.models.remote_code.lossless import (
    CodeError,
    frequencies,
    unframe,
    unpack,
    unpack_numbers,
    unpack_rans,
    width,
)


def entropy(symbols: np.ndarray) -> float:
    """Bits a symbol."""
    p = np.bincount(symbols) / len(symbols)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


@settings(max_examples=150, deadline=None)
@given(
    size=st.one_of(st.integers(1, 20), st.integers(21, 70_000)),
    count=st.integers(0, 600),
    skew=st.floats(0.1, 8.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_symbols_of_any_alphabet_number_and_distribution_come_back(
    size: int, count: int, skew: float, seed: int
) -> None:
    symbols = (size * np.random.default_rng(seed).random(count) ** skew).astype(np.int64)
    assert np.array_equal(unpack(pack(symbols, size), count, size), symbols)
    if count and 2 <= size <= 4096:  # also where the fixed width would have been chosen
        assert np.array_equal(unpack_rans(pack_rans(symbols, size), count, size), symbols)


@pytest.mark.parametrize("n", [49_152, 1 << 20])
def test_trits_cost_their_entropy_and_less_than_base_3_or_lzma(n: int) -> None:
    trits = np.random.default_rng(0).choice(3, n, p=[0.3, 0.4, 0.3])
    bits = len(pack(trits, 3)) * 8 / n
    assert entropy(trits) <= bits < entropy(trits) + 0.008 < 1.6
    filters = [{"id": lzma.FILTER_LZMA1, "lc": 0, "lp": 0, "pb": 0, "preset": 6}]
    if n < 1 << 17:
        assert bits < len(lzma.compress(trits.astype(np.uint8), lzma.FORMAT_RAW, filters=filters)) * 8 / n


def test_a_skewed_large_alphabet_costs_little_more_than_its_entropy() -> None:
    symbols = np.clip(np.rint(np.random.default_rng(1).normal(scale=40, size=100_000) + 512), 0, 1023).astype(
        int
    )
    bits = len(pack(symbols, 1024)) * 8 / len(symbols)
    assert entropy(symbols) < bits < entropy(symbols) * 1.02


def test_one_symbol_alone_costs_next_to_nothing() -> None:
    assert len(pack(np.full(100_000, 2), 3)) < 64


def test_uniform_symbols_take_their_fixed_width_and_one_byte() -> None:
    symbols = np.random.default_rng(2).integers(0, 256, 10_000)
    assert len(pack(symbols, 256)) == 10_001


@given(st.lists(st.integers(0, 2**40), max_size=20))
def test_numbers_come_back(values: list[int]) -> None:
    assert unpack_numbers(pack_numbers(values))[0] == values


@settings(max_examples=60)
@given(counts=st.lists(st.integers(0, 10**9), min_size=2, max_size=300))
def test_frequencies_sum_to_the_total_and_keep_whatever_occurs(counts: list[int]) -> None:
    array = np.array(counts, np.int64)
    if array.sum():
        shared = frequencies(array, 1 << 12)
        assert shared.sum() == 1 << 12 and ((shared > 0) == (array > 0)).all()


def test_symbols_outside_their_alphabet_are_refused() -> None:
    with pytest.raises(ValueError, match=r"outside the alphabet \[0, 3\)"):
        pack(np.array([0, 3]), 3)


@pytest.mark.parametrize("bits", range(1, 25))
def test_every_width_is_as_long_as_it_says(bits: int) -> None:
    symbols = np.random.default_rng(bits).integers(0, 1 << bits, 1001)
    packed = pack_fixed(symbols, bits)
    assert len(packed) == -(-1001 * bits // 8) and width(1 << bits) == bits


def test_a_frame_refuses_every_flipped_byte_every_cut_and_every_other_codec() -> None:
    parts = [b"", b"abc", bytes(200)]
    sealed = frame(7, 1, parts)
    assert unframe(sealed, 7, 1) == parts
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 0x10
        with pytest.raises(CodeError):
            unframe(bytes(altered), 7, 1)
        with pytest.raises(CodeError):
            unframe(sealed[:place], 7, 1)
    with pytest.raises(CodeError, match="codec 7"):
        unframe(sealed, 8, 1)
    with pytest.raises(CodeError, match="version 1"):
        unframe(sealed, 7, 2)
