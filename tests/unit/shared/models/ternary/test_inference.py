"""A ternary model that computes in integers says what it said before."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from components.compression.codecs.scalar import exact
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.loading import build, load, save
from components.shared.models.remote_code.coded import CodedLinear, install
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.experts import set_expert
from components.shared.models.ternary import inference
from components.shared.models.ternary.inference import accelerate
from components.shared.tasks.tokenizer import byte_tokenizer
from pipelines.generate import TextModel

SHAPE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = torch.tensor([[257, *b"12+7="]])
PATH = "model.layers.0.mlp.up_proj"


@pytest.fixture
def model() -> Any:
    """A Cognate whose blocks are ternary; one layer has the code that compression gives it, one is plain int8."""
    model = build(CognateConfig(**SHAPE, memory=True, memory_size=32), seed=0).eval()
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and min(module.weight.shape) >= 32 and ".layers." in path:
            code, shape = encode_ternary(module.weight), module.weight.shape
            install(model, path, *stored("ternary", code, shape, activations="int8"))
    layer = model.get_submodule(PATH)
    code = exact(layer.weight.numpy())
    assert code is not None
    install(model, PATH, *stored("scalar", code, layer.weight.shape, activations="int8"))
    return model.requires_grad_(False)


def test_each_layer_is_the_reference_up_to_rounding(model: Any) -> None:
    twin = copy.deepcopy(model)
    paths = accelerate(model)
    assert len(paths) == 14 and PATH in paths
    for path in paths:
        layer, own = model.get_submodule(path), twin.get_submodule(path)
        for shape in [(1, 1), (3, 5), (2,)]:
            x = torch.randn(*shape, own.in_features)
            y, wanted = layer(x), own(x)
            assert y.shape == wanted.shape
            assert (y - wanted).abs().max() < 2e-6 * wanted.abs().max() + 1e-7
        assert layer.decoded is None, "the weight was decoded all the same"


def test_each_token_that_is_generated_is_the_plain_models_choice(model: Any) -> None:
    """Up to what a rounding of an activation costs that tips for a last bit: 1/127 of it, and what follows from that."""
    fast = copy.deepcopy(model)
    assert accelerate(fast)
    said = fast.generate(IDS, max_new_tokens=24, do_sample=False, attention_mask=torch.ones_like(IDS))
    plain = model(said).logits
    slack = 0.1 * plain.std()
    assert (fast(said).logits - plain).abs().max() < slack
    start = IDS.shape[1]
    chosen = plain[:, start - 1 : -1].gather(-1, said[:, start:, None])
    assert said.shape[1] > start and (plain[:, start - 1 : -1].amax(-1) - chosen[..., 0]).max() < 2 * slack


def test_an_expert_is_heard_while_it_is_worn_and_not_after(model: Any) -> None:
    accelerate(model)
    own = model(IDS).logits
    z = torch.linspace(0.5, 1.5, 64)
    set_expert(model, {PATH: z})
    worn = model(IDS).logits
    set_expert(model, None)
    assert not torch.allclose(worn, own, atol=1e-3) and torch.equal(model(IDS).logits, own)


def test_gradients_go_the_plain_way(model: Any) -> None:
    accelerate(model)
    x = torch.randn(2, 64, requires_grad=True)
    model.get_submodule(PATH)(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_weights_that_are_loaded_later_are_used(model: Any) -> None:
    layer = model.get_submodule("model.layers.0.mlp.gate_proj")
    accelerate(model)
    x = torch.randn(1, 64)
    before = layer(x)
    layer.load_state_dict({"code": layer.code.flip(0).roll(-4).clamp_max(242)}, strict=True)
    assert not torch.equal(layer(x), before) and torch.equal(layer(x), CodedLinear.forward(layer, x))


def test_what_is_not_ternary_or_has_float_activations_is_left_alone(model: Any, tmp_path: Path) -> None:
    plain = build(CognateConfig(**SHAPE), seed=0)
    assert accelerate(plain) == []
    w = plain.model.layers[0].mlp.up_proj.weight
    install(plain, PATH, *stored("ternary", encode_ternary(w), w.shape))
    assert accelerate(plain) == []
    save(model, byte_tokenizer(), tmp_path / "m", card="")
    loaded, _ = load(tmp_path / "m")
    assert len(accelerate(loaded)) == 14


def test_a_small_model_may_be_left_alone(model: Any) -> None:
    weights = sum(layer.in_features * layer.out_features for layer in coded(model))
    assert accelerate(model, least=weights + 1) == [] and not any(hasattr(m, "ternary") for m in coded(model))
    assert len(accelerate(model, least=weights)) == 14


def coded(model: Any) -> list[CodedLinear]:
    return [module for module in model.modules() if isinstance(module, CodedLinear)]


def test_what_a_person_asks_of_a_large_model_is_written_by_the_integers(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(model, byte_tokenizer(), tmp_path / "m", card="")
    used: list[int] = []
    own = inference.multiply
    monkeypatch.setattr(inference, "multiply", lambda *a, **k: used.append(1) or own(*a, **k))
    assert TextModel.load(tmp_path / "m").complete("12+7=", tokens=8).text and not used  # it is small
    monkeypatch.setattr(inference, "MIN_WEIGHTS", 1)
    assert TextModel.load(tmp_path / "m").complete("12+7=", tokens=8).text and len(used) >= 14 * 8
