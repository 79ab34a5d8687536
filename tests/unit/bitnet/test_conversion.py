"""Which layers become ternary, where norms go, and what conversion leaves as it was."""

import copy

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from components.bitnet.conversion import (
    convert,
    linears_to_convert,
    root_mean_squares,
    set_strength,
)
from components.bitnet.placement import kept, unnormed
from components.shared.models.loading import load, save, wrap
from components.shared.models.remote_code.ternary import BitLinear, quantise_activations, ternarise
from components.shared.runtime.errors import InputError
from components.shared.tasks.tokenizer import byte_tokenizer
from tests import shapes

from .networks import BLOCK, IDS, cognate, llama, paths_of_blocks

THOUGHTS = {"length": 4, "start": 259, "end": 260, "mixing": True}


def bitlinears(model):
    return {path: module for path, module in model.named_modules() if isinstance(module, BitLinear)}


def test_of_a_cognate_the_blocks_and_the_memorys_projections_become_ternary_and_no_gate_or_head():
    model = cognate(memory=True, refinement=True, thoughts=THOUGHTS, tie_word_embeddings=False)
    expected = paths_of_blocks("model.layers")
    expected |= {f"model.memory.{name}_proj" for name in "qkvo"}
    expected |= {f"model.refinement.block.{name}" for name in BLOCK}
    assert set(linears_to_convert(model)) == expected


def test_a_memorys_rates_stay_precise_however_many_heads_it_has():
    model = cognate(memory=True, memory_heads=8)  # 24 rates: wider than a gate
    assert not any("rates" in path for path in linears_to_convert(model))


def test_of_a_llama_the_blocks_become_ternary_and_not_its_output_layer():
    assert set(linears_to_convert(llama())) == paths_of_blocks("inner.model.layers")


def test_a_bias_stays_as_it_is():
    """Qwen2 has them at q, k and v."""
    model = llama(attention_bias=True)
    biases = {path: bias for path, bias in model.named_parameters() if path.endswith("bias")}
    torch.nn.init.normal_(biases["inner.model.layers.0.self_attn.q_proj.bias"])
    convert(model, {})
    layer = model.get_submodule("inner.model.layers.0.self_attn.q_proj")
    x = torch.randn(2, layer.in_features)
    assert type(layer) is BitLinear and dict(model.named_parameters()).keys() >= biases.keys()
    assert torch.equal(layer(torch.zeros_like(x)), layer.bias.expand(2, -1)) and layer.bias.any()


def test_a_model_without_linear_layers_is_refused():
    """A GPT-2 that was not loaded here: its layers are of another class, whose weights lie the other way round."""
    with pytest.raises(InputError, match=r"no linear layers to convert.*give a Llama"):
        linears_to_convert(GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=272)))


def test_a_ternary_model_is_refused_in_training_and_as_it_is_stored(tmp_path):
    model = cognate()
    convert(model, {})
    with pytest.raises(InputError, match=r"ternary or coded already.*model\.layers\.0\.self_attn\.q_proj"):
        linears_to_convert(model)
    save(model, byte_tokenizer(), tmp_path / "stored", card="")
    with pytest.raises(InputError, match="ternary or coded already"):
        linears_to_convert(load(tmp_path / "stored")[0])


def test_the_layers_that_no_norm_precedes_are_those_that_leave_attention_and_mlp():
    model = cognate(memory=True, refinement=True)
    paths = unnormed(model, linears_to_convert(model))
    blocks = ("model.layers.0", "model.layers.1", "model.refinement.block")
    expected = {f"{block}.{name}" for block in blocks for name in ("self_attn.o_proj", "mlp.down_proj")}
    assert set(paths) == expected | {"model.memory.o_proj"}


def test_the_measured_root_mean_square_is_that_of_the_layers_input():
    """o_proj's input is read off by an oracle of its own: an identity in its place."""
    model = cognate()
    layer = model.model.layers[1].self_attn
    measured = root_mean_squares(model, ["model.layers.1.self_attn.o_proj"], [{"input_ids": IDS}])
    layer.o_proj, seen = nn.Identity(), []
    layer.o_proj.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    model(IDS)
    expected = seen[0].square().mean().sqrt().item()
    assert measured == {"model.layers.1.self_attn.o_proj": pytest.approx(expected, rel=1e-6)}


def test_the_root_mean_square_is_over_all_batches_by_size():
    """Of batches of 1 and 3 rows it is that of all four rows."""
    model, path = cognate(), "model.layers.0.mlp.down_proj"
    rows = torch.cat([IDS, IDS[:1].flip(1)])
    apart = root_mean_squares(model, [path], [{"input_ids": rows[:1]}, {"input_ids": rows[1:]}])
    assert apart[path] == pytest.approx(
        root_mean_squares(model, [path], [{"input_ids": rows}])[path], rel=1e-6
    )


def test_measuring_leaves_no_hooks_behind():
    model = cognate()
    root_mean_squares(model, ["model.layers.0.mlp.down_proj"], [{"input_ids": IDS}])
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("make", [lambda: cognate(memory=True, refinement=True), llama])
def test_at_strength_zero_and_without_norms_the_function_is_unchanged(make):
    model = make()
    before = model(IDS).logits
    convert(model, {})
    set_strength(model, 0.0)
    assert torch.equal(model(IDS).logits, before)


def test_at_strength_zero_a_calibrated_norm_keeps_the_size_of_what_goes_into_a_layer():
    """RMSNorm with gain rms: inputs of one size pass unchanged; of different sizes, their mean size is kept."""
    model = cognate()
    paths = unnormed(model, linears_to_convert(model))
    gains = root_mean_squares(model, paths, [{"input_ids": IDS}])
    convert(model, gains)
    for path, layer in bitlinears(model).items():
        if path in gains:
            assert torch.equal(layer.norm.weight, torch.full_like(layer.norm.weight, gains[path]))
            x = torch.randn(5, layer.in_features)
            x = x / x.square().mean(-1, keepdim=True).sqrt() * gains[path]
            layer.strength = 0.0
            torch.testing.assert_close(layer(x), x @ layer.weight.T, rtol=1e-3, atol=1e-5)
        else:
            assert layer.norm is None


def test_a_converted_layer_computes_with_trits_and_eight_bits():
    model = cognate()
    old = model.model.layers[0].mlp.gate_proj.weight
    convert(model, {})
    x = torch.randn(4, 32)
    expected = quantise_activations(x) @ ternarise(old).T
    torch.testing.assert_close(model.model.layers[0].mlp.gate_proj(x), expected)


def test_conversion_takes_the_weights_and_does_not_copy_them():
    model = cognate()
    before = {path: layer.weight for path, layer in linears_to_convert(model).items()}
    convert(model, {})
    assert all(layer.weight is before[path] for path, layer in bitlinears(model).items())


LEAVES = {
    "gpt2": {"c_proj"},
    "phi3": {"o_proj", "down_proj"},
    "gemma": {"o_proj", "down_proj"},
    "mixtral": {"o_proj", "down"},
    "qwen2_moe": {"o_proj", "down", "down_proj"},
    "deepseek_v3": {"o_proj", "down", "down_proj"},
}


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    return {family: load(shapes.make(family, root / family))[0] for family in LEAVES}


@pytest.mark.parametrize("family", LEAVES)
def test_which_layers_no_norm_precedes_is_seen_in_any_architecture(family, families):
    """And of experts alike, whichever of them the tokens reach."""
    paths = linears_to_convert(families[family])
    found = unnormed(families[family], paths)
    assert {path.rpartition(".")[2] for path in found} == LEAVES[family]
    assert all(path in found for path in paths if path.rpartition(".")[2] in LEAVES[family])


def test_what_stays_in_high_precision_is_named_with_its_reason(families):
    def reasons(family):
        model = wrap(copy.deepcopy(families[family]))
        convert(model, {})
        return {name.removeprefix("inner."): why for name, why in kept(model).items()}

    assert reasons("gpt2") == {
        "transformer.wte.weight": "embedding",
        "transformer.wpe.weight": "embedding of positions",
        "lm_head.weight": "output head",
    }
    mixtral = reasons("mixtral")
    assert mixtral.pop("model.embed_tokens.weight") == "embedding"
    assert mixtral.pop("lm_head.weight") == "output head"
    assert mixtral == {f"model.layers.{n}.mlp.gate.weight": "router" for n in range(2)}
    router = "router, gate, or head of thinking, memory or halting"
    assert reasons("qwen2_moe")["model.layers.0.mlp.shared_expert_gate.weight"] == router


def test_a_convolution_and_fused_experts_of_another_form_are_kept_and_said(tmp_path):
    model, _ = load(shapes.make("gpt_oss", tmp_path / "gpt_oss"))
    model.model.vision = nn.Conv2d(3, 32, 3)
    convert(model, {})
    said = kept(model)
    assert said["model.vision.weight"] == "convolution"
    assert said["model.layers.0.mlp.experts.down_proj"].startswith("experts that lie fused")


def test_an_expert_that_no_token_reached_is_calibrated_as_the_others_of_its_layer(families):
    model = families["mixtral"]
    paths = [path for path in linears_to_convert(model) if path.endswith("layers.0.mlp.experts.0.down")]
    paths += [path.replace("experts.0", "experts.1") for path in paths]
    layer = model.model.layers[0].mlp
    forward = layer.experts.forward
    layer.experts.forward = lambda x, index, weights: forward(
        x, torch.zeros_like(index[:, :1]), weights[:, :1]
    )
    measured = root_mean_squares(model, paths, [{"input_ids": IDS}])
    del layer.experts.forward
    assert measured[paths[0]] == measured[paths[1]] > 0
