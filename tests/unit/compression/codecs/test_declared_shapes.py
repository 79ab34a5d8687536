"""A number in a code's header costs nothing to write: what it declares is held against the bytes that are there."""

import tracemalloc

import numpy as np
import pytest

from components.compression.codecs import registry
from components.compression.codecs.encoding import encode, format_of
from components.compression.codecs.slabs import join
from components.compression.coding.lossless import frame, pack_numbers
from components.shared.models.remote_code.decoders import decode
from components.shared.models.remote_code.lossless import CODE, CodeError, count_of, unframe, unpack_numbers


def one_preset_a_format():
    """A preset of each format that is not ternary's own."""
    presets = {}
    for name, preset in registry.presets().items():
        codec = registry.codec(preset.codec)
        presets.setdefault((codec.decoder or codec.name, preset.transform), name)
    return sorted(presets.values())


@pytest.mark.parametrize("name", one_preset_a_format())
@pytest.mark.parametrize("number", [1 << 14, 1 << 31, 1 << 62])
def test_no_number_in_a_header_becomes_memory(name, number):
    w = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    code, spec = encode(name, w, None, seed=0), format_of(name).spec() | {"shape": [16, 24]}
    kind, version = code[2], code[3]
    head, *parts = unframe(code, kind, version)
    numbers = unpack_numbers(head)[0]
    decode(spec, code)
    tracemalloc.start()
    for place in range(len(numbers)):
        changed = [*numbers[:place], number, *numbers[place + 1 :]]
        try:
            decode(spec, frame(kind, version, [pack_numbers(changed), *parts]))
        except ValueError:
            continue
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 << 20


def test_a_small_code_of_a_huge_shape_is_refused():
    with pytest.raises(CodeError, match="a code of 48 bytes that declares the shape"):
        count_of((16384, 16384), bytes(48))
    assert count_of((2048, 2048), bytes(48)) == CODE


def test_slabs_may_not_declare_more_than_they_hold():
    w = np.ones((4, 8), np.float32)
    name = one_preset_a_format()[0]
    codes = [encode(name, part, None, seed=0) for part in (w[:2], w[2:])]
    spec = format_of(name, slabs=2).spec()
    assert decode(spec | {"shape": [4, 8]}, join(codes, (4, 8))).shape == (4, 8)
    with pytest.raises(CodeError, match="2 slabs in"):
        decode(spec | {"shape": [1 << 14, 1 << 14]}, join(codes, (1 << 14, 1 << 14)))
