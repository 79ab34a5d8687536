"""Coded layers against the layers they stand for."""

import copy
import json
import struct

import numpy as np
import pytest
import torch
from torch import nn

from components.shared.models.encoders import encode_grouped, encode_ternary, squeeze, stored
from components.shared.models.hub.coded import CodedEmbedding, CodedLinear, apply_storage, install
from components.shared.models.hub.decoders import decode
from components.shared.models.hub.ternary import BitLinear, ternarise

from .variants import cognate, some_ids


def test_a_ternary_layer_at_inference_equals_the_training_layer_bit_for_bit():
    torch.manual_seed(0)
    for norm in (False, True):
        layer, x = BitLinear(37, 11, norm=norm).eval(), torch.randn(2, 5, 37)
        spec, code = stored("ternary", encode_ternary(layer.weight), (11, 37), activations="int8", norm=norm)
        coded = CodedLinear(spec, code)
        if norm:
            torch.nn.init.normal_(layer.norm.weight)
            coded.norm.load_state_dict(layer.norm.state_dict())
        assert torch.equal(coded(x), layer(x))
        assert len(code) == 4 + -(-37 * 11 // 5)


def test_a_stored_ternary_weight_decodes_to_the_quantised_weight_bit_for_bit():
    w = torch.randn(13, 7, 3)
    array = decode("ternary", encode_ternary(w), {"shape": [13, 7, 3]})
    assert np.array_equal(array, ternarise(w).numpy())


@pytest.mark.parametrize(("bits", "limit"), [(8, 0.5 / 127), (4, 0.5 / 7)])
@pytest.mark.parametrize("shape", [(9, 16), (5, 7), (1, 1)])
def test_grouped_codes_round_to_the_nearest_step_of_their_group(bits, limit, shape):
    w = torch.randn(shape)
    code = encode_grouped(w, bits, 16)
    assert len(code) == 7 + 2 * -(-w.numel() // 16) + -(-w.numel() * bits // 8)
    back = torch.from_numpy(decode(f"int{bits}", code, {"shape": list(shape)}).copy())
    groups = zip(w.flatten().split(16), back.flatten().split(16), strict=True)
    for group, decoded in groups:
        assert (group - decoded).abs().max() <= 1.01 * limit * group.abs().max() + 1e-3 * group.abs().max()


def test_grouped_zeros_stay_zero():
    assert not decode("int4", encode_grouped(torch.zeros(3, 5), 4, 8), {"shape": [3, 5]}).any()


@pytest.mark.parametrize("lossless", ["none", "zlib", "lzma"])
def test_the_lossless_stage_gives_the_same_weights(lossless):
    code = encode_ternary(torch.randn(64, 64))
    meta = {"shape": [64, 64], "lossless": lossless}
    assert np.array_equal(
        decode("ternary", squeeze(code, lossless), meta), decode("ternary", code, {"shape": [64, 64]})
    )


def test_unknown_codecs_stages_and_short_codes_are_refused():
    with pytest.raises(ValueError, match=r"unknown codec 'gzip'.*ternary"):
        decode("gzip", b"", {"shape": [1]})
    with pytest.raises(ValueError, match="unknown lossless stage 'rar'"):
        decode("ternary", b"", {"shape": [1], "lossless": "rar"})
    with pytest.raises(ValueError, match=r"holds 5 weights, the shape \[2, 3\] needs 6"):
        decode("ternary", struct.pack("<f", 1.0) + b"\0", {"shape": [2, 3]})


def coded_twin(model, codec=lambda w: ("int8", encode_grouped(w, 8, 64))):
    """The model with every linear and embedding layer coded."""
    twin = copy.deepcopy(model)
    paths = [path for path, m in twin.named_modules() if isinstance(m, (nn.Linear, nn.Embedding))]
    for path in paths:
        weight = twin.get_submodule(path).weight
        name, code = codec(weight)
        install(twin, path, *stored(name, code, tuple(weight.shape)))
    return twin


def test_a_model_with_coded_layers_and_a_tied_coded_embedding_is_the_model_with_decoded_weights():
    model, ids = cognate("union"), some_ids(2, 9)
    coded, plain = coded_twin(model), copy.deepcopy(model)
    with torch.no_grad():
        for path, module in coded.named_modules():
            if isinstance(module, (CodedLinear, CodedEmbedding)):
                plain.get_submodule(path).weight.copy_(module.weight)
    assert isinstance(coded.model.embed_tokens, CodedEmbedding)
    assert torch.equal(coded(ids).logits, plain(ids).logits)
    assert not torch.equal(coded(ids).logits, model(ids).logits)


def test_weights_are_decoded_once_and_anew_after_loading():
    spec, code = stored("int8", encode_grouped(torch.randn(4, 4), 8, 16), (4, 4))
    layer = CodedLinear(spec, code)
    assert layer.weight is layer.weight
    old, other = layer.weight, encode_grouped(torch.randn(4, 4), 8, 16)
    layer.load_state_dict({"code": torch.frombuffer(bytearray(other), dtype=torch.uint8)})
    assert not torch.equal(layer.weight, old)


def test_empty_layers_built_from_storage_take_the_stored_state():
    model, ids = cognate("memory"), some_ids(2, 9)
    coded = coded_twin(model)
    storage = {p: m.spec for p, m in coded.named_modules() if isinstance(m, (CodedLinear, CodedEmbedding))}
    empty = copy.deepcopy(model)
    apply_storage(empty, json.loads(json.dumps(storage)))
    empty.load_state_dict(coded.state_dict())
    assert torch.equal(empty(ids).logits, coded(ids).logits)


def test_gradients_pass_through_a_coded_layer_to_its_input():
    spec, code = stored("int8", encode_grouped(torch.randn(4, 6), 8, 24), (4, 6))
    layer, x = CodedLinear(spec, code), torch.randn(3, 6, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, 6))
