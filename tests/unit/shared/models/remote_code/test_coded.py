"""Coded layers against the layers they stand for."""

import copy
import json
import struct

import numpy as np
import pytest
import torch
from torch import nn

from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.remote_code.coded import CodedEmbedding, CodedLinear, apply_storage, install
from components.shared.models.remote_code.decoders import decode
from components.shared.models.remote_code.ternary import BitLinear, ternarise

from ..variants import cognate, some_ids


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
    array = decode({"codec": "ternary", "shape": [13, 7, 3]}, encode_ternary(w))
    assert np.array_equal(array, ternarise(w).numpy())


def test_unknown_codecs_and_short_codes_are_refused():
    with pytest.raises(ValueError, match=r"unknown codec 'gzip'.*ternary"):
        decode({"codec": "gzip", "shape": [1]}, b"")
    with pytest.raises(ValueError, match=r"holds 5 weights, the shape \[2, 3\] needs 6"):
        decode({"codec": "ternary", "shape": [2, 3]}, struct.pack("<f", 1.0) + b"\0")


def coded_twin(model):
    """The model with every linear and embedding layer coded (ternary, without quantised activations)."""
    twin = copy.deepcopy(model)
    for path, module in [(p, m) for p, m in twin.named_modules() if isinstance(m, (nn.Linear, nn.Embedding))]:
        install(twin, path, *stored("ternary", encode_ternary(module.weight), tuple(module.weight.shape)))
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


def random_layer(rows, columns):
    return CodedLinear(*stored("ternary", encode_ternary(torch.randn(rows, columns)), (rows, columns)))


def test_weights_are_decoded_once_and_anew_after_loading():
    layer, other = random_layer(4, 4), random_layer(4, 4)
    old = layer.weight
    assert layer.weight is old
    layer.load_state_dict(other.state_dict())
    assert torch.equal(layer.weight, other.weight) and not torch.equal(layer.weight, old)


@pytest.mark.parametrize("bias", [False, True])
def test_installing_a_code_keeps_bias_norm_and_int8_activations(bias):
    model = nn.Sequential(BitLinear(16, 8, bias=bias, norm=True)).eval()
    nn.init.normal_(model[0].norm.weight)
    before, x = model[0], torch.randn(3, 16)
    for _ in range(2):  # over a BitLinear, then over a coded layer
        install(model, "0", *stored("ternary", encode_ternary(before.weight), (8, 16)))
        assert torch.equal(model(x), before(x))
    expected = {"codec": "ternary", "shape": [8, 16], "bytes": 30, "norm": True, "activations": "int8"}
    assert model[0].spec == expected | ({"bias": True} if bias else {})


def test_empty_layers_built_from_storage_take_the_stored_state():
    model, ids = cognate("memory"), some_ids(2, 9)
    coded = coded_twin(model)
    storage = {p: m.spec for p, m in coded.named_modules() if isinstance(m, (CodedLinear, CodedEmbedding))}
    empty = copy.deepcopy(model)
    apply_storage(empty, json.loads(json.dumps(storage)))
    empty.load_state_dict(coded.state_dict())
    assert torch.equal(empty(ids).logits, coded(ids).logits)


def test_gradients_pass_through_a_coded_layer_to_its_input():
    layer, x = random_layer(4, 6), torch.randn(3, 6, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, 6))
