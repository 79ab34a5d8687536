"""A layer's single token in two compiled calls is what the layer computes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from components.bitnet.conversion import convert, linears_to_convert
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.loading import wrap
from components.shared.models.remote_code.coded import install
from components.shared.models.ternary.inference import accelerate

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


def ternary(model: Any) -> Any:
    """A wrapped model whose blocks are stored ternary, with norms in front of o and down."""
    model = wrap(model.eval()).requires_grad_(False)
    paths = list(linears_to_convert(model))
    convert(model, {path: 0.7 for path in paths if path.endswith(("o_proj", "down_proj"))})
    for path in paths:
        layer = model.get_submodule(path)
        more = {name: True for name in ("bias", "norm") if getattr(layer, name) is not None}
        install(model, path, *stored("ternary", encode_ternary(layer.weight), layer.weight.shape, **more))
        nn.Module.requires_grad_(model.get_submodule(path), False)
    return model


@torch.no_grad()
def generated(model: Any, count: int = 5) -> Tensor:
    """Logits of the next token after a prompt and after each of some tokens, one at a time: (count + 1, V)."""
    ids, cache, logits = torch.tensor([[5, 6, 7]]), None, []
    for token in [*range(8, 8 + count), 0]:
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        cache, ids = out.past_key_values, torch.tensor([[token]])
        logits.append(out.logits[0, -1])
    return torch.stack(logits)


def test_single_tokens_are_what_the_layers_compute_with_norms_and_biases() -> None:
    torch.manual_seed(0)
    for model in (LlamaForCausalLM(LlamaConfig(**SHAPE)), Qwen2ForCausalLM(Qwen2Config(**SHAPE))):
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter, std=0.3)
        made = ternary(model)
        expected = generated(made)
        accelerate(made)
        layers = made.inner.model.layers
        assert all("fused" in layer.__dict__ for layer in layers)
        calls = [0]
        own = type(layers[0].__dict__["fused"]).__call__

        def counted(self: Any, *args: Any, calls: list[int] = calls, own: Any = own) -> Tensor:
            calls[0] += 1
            said: Tensor = own(self, *args)
            return said

        type(layers[0].__dict__["fused"]).__call__ = counted
        try:
            found = generated(made)
        finally:
            type(layers[0].__dict__["fused"]).__call__ = own
        assert calls == [2 * 5], "the prompt goes the layers' own way, each token the other"
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_a_changed_weight_goes_the_layers_own_way() -> None:
    torch.manual_seed(0)
    made = ternary(LlamaForCausalLM(LlamaConfig(**SHAPE)))
    accelerate(made)
    layer = made.inner.model.layers[0].mlp.down_proj
    before = generated(made)
    layer.decoded = 2 * layer.weight
    assert (generated(made) - before).abs().max() > 1e-2
