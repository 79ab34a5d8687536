"""Matrices in slabs of rows: row_ranges, encoded, joined, decoded by what travels with the artifact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.compression.codecs.codec import CodeFormat
from components.compression.codecs.encoding import decode, encode, format_of
from components.compression.codecs.slabs import join, row_ranges, split
from components.compression.coding import hessian
from components.shared.models.remote_code.lossless import CodeError


@settings(max_examples=200)
@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 1 << 16))
def test_slabs_cover_the_rows_in_order_and_none_is_too_large(rows: int, columns: int, largest: int) -> None:
    slabs = row_ranges(rows, columns, largest)
    assert [row for start, stop in slabs for row in range(start, stop)] == list(range(rows))
    heights = [stop - start for start, stop in slabs]
    assert max(heights) - min(heights) <= 1 and min(heights) >= 1
    assert max(heights) == 1 or max(heights) * columns <= largest
    assert len(slabs) == 1 or rows * columns > largest


def coded(w: np.ndarray, name: str, largest: int) -> tuple[CodeFormat, bytes]:
    slabs = row_ranges(*w.shape, largest)
    codes = [encode(name, w[start:stop], None, seed=0) for start, stop in slabs]
    return format_of(name, len(slabs)), join(codes, w.shape)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 300))
def test_a_code_of_slabs_is_what_its_slabs_are_from_the_top_down(
    rows: int, columns: int, largest: int
) -> None:
    w = np.random.default_rng(rows * columns).normal(size=(rows, columns)).astype(np.float32)
    format, code = coded(w, "int8", largest)
    whole = decode(format, code, w.shape)
    assert np.abs(whole - w).max() < 0.3
    inner, slabs = split(format, code)
    assert inner == CodeFormat("scalar")
    for (start, stop), slab in zip(row_ranges(rows, columns, largest), slabs, strict=True):
        assert np.array_equal(decode(inner, slab, (stop - start, columns)), whole[start:stop])


@pytest.mark.parametrize("name", ["int4", "trellis 2", "seedlm 2", "vptq 2", "hyper 64", "exact"])
def test_every_codec_goes_into_slabs(name: str) -> None:
    w = np.random.default_rng(0).normal(size=(48, 32)).astype(np.float32)
    w = np.sign(w) if name == "exact" else w
    format, code = coded(w, name, 16 * 32)
    assert format.slabs and len(split(format, code)[1]) == 3
    whole = decode(format, code, w.shape)
    assert np.array_equal(whole, w) if name == "exact" else np.corrcoef(whole.flat, w.flat)[0, 1] > 0.85


def test_a_code_of_slabs_that_was_cut_altered_or_misses_rows_is_refused() -> None:
    w = np.random.default_rng(0).normal(size=(48, 32)).astype(np.float32)
    format, code = coded(w, "int4", 16 * 32)
    altered = bytearray(code)
    altered[len(code) // 2] ^= 1
    for damaged in (code[:-1], bytes(altered)):
        with pytest.raises(CodeError):
            decode(format, damaged, w.shape)
    _, slabs = split(format, code)
    with pytest.raises(CodeError, match="32 rows in a matrix of 48"):
        decode(format, join(slabs[:2], w.shape), w.shape)
    with pytest.raises(CodeError, match="from row 48 on"):
        decode(format, join([*slabs, slabs[0]], w.shape), w.shape)


def test_slabs_of_one_tensor_ask_once_for_what_their_hessian_leads_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng, calls = np.random.default_rng(0), []
    own = hessian.factorise
    monkeypatch.setattr(hessian, "factorise", lambda *arguments: calls.append(arguments) or own(*arguments))
    x, w = rng.normal(size=(99, 32)), rng.normal(size=(48, 32)).astype(np.float32)
    h = x.T @ x / 99
    mapped = h.copy()
    mapped.flags.writeable = False
    slabs = row_ranges(*w.shape, 16 * 32)
    apart = [encode("int4", w[a:b], h, seed=0) for a, b in slabs]
    assert len(calls) == len(slabs) == 3
    together = [encode("int4", w[a:b], mapped, seed=0) for a, b in slabs]
    assert len(calls) == 4 and together == apart
    other = mapped[::-1, ::-1]
    encode("int4", w[:16], other, seed=0)
    assert len(calls) == 5  # another Hessian is another one
