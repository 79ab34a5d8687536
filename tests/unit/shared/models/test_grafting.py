"""Memory and refinement on models of other families."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from components.shared.models.grafting import graft, is_grafted, memory_shape, refinement_shape, union_shapes
from components.shared.models.loading import load, save
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.models.remote_code.refinement import ponder_loss
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.batches import Batch
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.head import next_token_loss
from tests import plain_transformers

SIZES = {
    "vocab_size": 272, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "pad_token_id": 256,
    "bos_token_id": 257, "eos_token_id": 258, "intermediate_size": 48,
}  # fmt: skip
REFINEMENT = refinement_shape(width=16, size=24, heads=2, steps=2, prior=0.5, beta=0.01)
IDS = torch.randint(0, 256, (2, 21), generator=torch.Generator().manual_seed(0))


def plain(family: str) -> PreTrainedModel:
    """A small random model."""
    torch.manual_seed(0)
    if family == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**SIZES, n_inner=48)).eval()
    if family == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=1)).eval()
    if family == "mistral":  # with a window that is shorter than the text
        return MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=6)).eval()
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=1)).eval()


def grafted(model: PreTrainedModel, *, memory: bool = True, refinement: bool = True) -> ForgeWrapped:
    """With modules, closed."""
    shape = memory_shape(model, layer=None, size=16, heads=2, chunk=4)
    return graft(
        model, memory=shape if memory else None, refinement=REFINEMENT if refinement else None, seed=3
    )


def opened(model: ForgeWrapped, seed: int = 1) -> ForgeWrapped:
    """With other weights in its modules, gates too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("inner."):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


families = pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "mistral"])


@families
@torch.no_grad()
def test_closed_modules_leave_the_function_as_it_was_bit_for_bit(family):
    model = plain(family)
    expected = model(IDS).logits
    whole = grafted(model)
    assert torch.equal(whole(IDS).logits, expected)
    assert torch.equal(whole(IDS, use_cache=True).logits, expected)  # where the modules do compute


@families
@torch.no_grad()
def test_generation_with_a_cache_is_generation_without_one(family):
    model = opened(grafted(plain(family)))
    whole, cache, parts = model(IDS).logits, None, []
    for columns in (IDS[:, :9], IDS[:, 9:10], IDS[:, 10:17], *IDS[:, 17:].split(1, 1)):
        out = model(columns, past_key_values=cache, use_cache=True)
        cache, parts = out.past_key_values, [*parts, out.logits]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    expected = IDS[:, :9]
    for _ in range(8):
        expected = torch.cat([expected, model(expected).logits[:, -1:].argmax(-1)], 1)
    generated = model.generate(IDS[:, :9], max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert torch.equal(generated, expected)


@families
@torch.no_grad()
def test_padding_on_the_left_changes_nothing(family):
    model = opened(grafted(plain(family)))
    alone = model.generate(IDS[:1, :9], max_new_tokens=6, do_sample=False, eos_token_id=None)
    padded = torch.full((2, 12), 256)
    padded[0, 3:], padded[1] = IDS[0, :9], IDS[1, :12]
    both = model.generate(
        padded, attention_mask=(padded != 256).long(), max_new_tokens=6, do_sample=False, eos_token_id=None
    )
    assert torch.equal(both[0, 12:], alone[0, 9:])


@families
def test_the_gradient_reaches_the_gates_and_with_a_frozen_base_nothing_else_of_the_model(family):
    model = grafted(plain(family)).train()
    model.inner.requires_grad_(False)
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert model.memory.gate.grad.any() and model.refinement.gate.grad.any()
    assert all(parameter.grad is None for parameter in model.inner.parameters())


def test_the_loss_of_an_open_refinement_is_pondernets_over_all_steps():
    model = opened(grafted(plain("llama"), memory=False)).train()
    labels = IDS.masked_fill(torch.arange(21) < torch.tensor([[5], [12]]), -100)
    kept = []
    handle = model.refinement.register_forward_hook(lambda module, inputs, ponder: kept.append(ponder))
    loss = model(input_ids=IDS, labels=labels).loss
    handle.remove()
    with torch.no_grad():
        hidden = model.inner.model.norm(kept[0].states)
        logits, learnt = model.inner.lm_head(hidden)[:, :, :-1], labels[:, 1:] != -100
        targets = labels[:, 1:][learnt]
        losses = [cross_entropy(step[learnt], targets, reduction="none") for step in logits]
        expected = ponder_loss(kept[0].log_p[:, :, :-1][:, learnt], torch.stack(losses), 0.5, 0.01)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(next_token_loss(model, Batch(IDS, labels, torch.ones_like(IDS))), expected)


def test_checkpointed_layers_have_the_gradients_of_others():
    gradients = []
    for checkpointed in (False, True):
        model = opened(grafted(plain("llama"))).train()
        if checkpointed:
            model.inner.gradient_checkpointing_enable({"use_reentrant": False})
        model(input_ids=IDS, labels=IDS).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_a_copy_does_not_read_the_memory_of_the_model_that_it_is_copied_from():
    model = opened(grafted(plain("llama")))
    before, other = model(IDS).logits, copy.deepcopy(model)
    model.memory.gate.zero_()
    model.refinement.gate.zero_()
    assert torch.equal(other(IDS).logits, before) and not torch.equal(model(IDS).logits, before)


@torch.no_grad()
def test_a_module_added_later_leaves_the_first_as_it_is_and_starts_as_if_it_were_alone():
    first = opened(grafted(plain("llama"), refinement=False))
    before = first(IDS).logits
    both = grafted(first)
    assert torch.equal(both(IDS).logits, before)
    alone = grafted(plain("llama"), memory=False)
    state = alone.refinement.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in both.refinement.state_dict().items())


def test_shapes_of_several_models_are_united_and_differing_ones_refused():
    models = [
        plain("llama"),
        grafted(plain("llama"), refinement=False),
        grafted(plain("llama"), memory=False),
    ]
    shapes = union_shapes(models)
    assert shapes["memory"]["layer"] == 1 and shapes["refinement"] == REFINEMENT
    assert [is_grafted(model) for model in models] == [False, True, True]
    other = graft(plain("llama"), memory={"layer": 0, "size": 8, "heads": 2, "chunk": 4})
    with pytest.raises(ConfigError, match="different shapes"):
        union_shapes([models[1], other])
    with pytest.raises(ConfigError, match="another shape"):
        graft(other, memory=shapes["memory"])
    with pytest.raises(ConfigError, match="no layer 3"):
        memory_shape(plain("llama"), layer=3, size=8, heads=2, chunk=4)


def test_grafted_models_are_the_same_in_plain_transformers_elsewhere(tmp_path):
    kinds = {"llama": {}, "gpt2": {"refinement": False}, "qwen2": {"memory": False}}
    expected = {}
    for family, parts in kinds.items():
        model = opened(grafted(plain(family), **parts))
        save(model, byte_tokenizer(), tmp_path / family, card="# A model\n")
        again, _ = load(tmp_path / family)
        tokens = model.generate(IDS[:1, :9], max_new_tokens=5, do_sample=False, eos_token_id=None)
        with torch.no_grad():
            assert torch.equal(again(IDS).logits, model(IDS).logits)
            expected[family] = (model(IDS).logits, tokens)
    files = {family: {file.stem for file in (tmp_path / family).glob("*.py")} for family in kinds}
    assert files["llama"] == {"modeling_wrapped", "grafts", "memory", "refinement", "blocks"}
    assert files["gpt2"] == {"modeling_wrapped", "grafts", "memory", "projections"}  # its Conv1Ds as Linears
    assert files["qwen2"] == {"modeling_wrapped", "grafts", "refinement", "blocks"}
    script = f"""
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM
for family in {list(kinds)}:
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1] + "/" + family, trust_remote_code=True)
    ids = torch.tensor({IDS.tolist()})
    tokens = model.generate(ids[:1, :9], max_new_tokens=5, do_sample=False, eos_token_id=None)
    torch.save([model(ids).logits.detach(), tokens], sys.argv[1] + "/" + family + ".pt")
"""
    plain_transformers.run(script, tmp_path, cwd=tmp_path)
    for family, (logits, tokens) in expected.items():
        theirs = torch.load(tmp_path / f"{family}.pt", weights_only=True)
        assert torch.equal(theirs[0], logits) and torch.equal(theirs[1], tokens)
