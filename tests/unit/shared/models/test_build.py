"""Fresh models, and unions that keep the function."""

import pytest
import torch

from components.shared.models.build import build, extend, union, union_config
from components.shared.models.remote_code.blocks import rotary, rotate
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.modeling_cognate import CognateForCausalLM
from components.shared.runtime.errors import ConfigError

from .variants import VARIANTS, cognate, some_ids

every_variant = pytest.mark.parametrize("variant", VARIANTS)


@every_variant
def test_a_union_gives_the_same_logits_bit_for_bit(variant):
    model, ids = cognate(variant), some_ids(3, 21)
    larger = union(model)
    assert larger.config.memory and larger.config.refinement
    assert torch.equal(larger(ids).logits, model(ids).logits)  # with gradients: every module runs
    with torch.no_grad():
        assert torch.equal(larger(ids).logits, model(ids).logits)


@every_variant
def test_a_union_gives_the_same_logits_bit_for_bit_with_a_cache_and_padding(variant):
    model, ids = cognate(variant), some_ids(2, 21)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    caches, logits = [None, None], [[], []]
    for end in (9, 10, 11, 21):
        start = 0 if caches[0] is None else caches[0].get_seq_length()
        for which, each in enumerate((model, union(model))):
            out = each(
                ids[:, start:end], attention_mask=mask[:, :end], past_key_values=caches[which], use_cache=True
            )
            caches[which] = out.past_key_values
            logits[which].append(out.logits)
    assert torch.equal(torch.cat(logits[0], 1), torch.cat(logits[1], 1))


def test_a_union_leaves_the_model_alone_and_shares_nothing_with_it():
    model = cognate()
    larger = union(model)
    with torch.no_grad():
        larger.model.embed_tokens.weight.zero_()
    assert model.model.embed_tokens.weight.abs().sum() > 0 and not model.config.memory


def test_added_modules_start_alike_whatever_else_is_added():
    whole, part = union(cognate(), seed=7), extend(cognate(), memory=True, seed=7)
    for name, tensor in part.model.memory.state_dict().items():
        assert torch.equal(tensor, whole.model.memory.state_dict()[name])
    assert not torch.equal(
        whole.model.memory.q_proj.weight, union(cognate(), seed=8).model.memory.q_proj.weight
    )


def test_an_added_module_can_learn():
    larger = union(cognate()).train()
    larger(some_ids(2, 9), labels=some_ids(2, 9)).loss.backward()
    assert larger.model.memory.gate.grad.abs().sum() > 0 and larger.model.refinement.gate.grad.abs().sum() > 0


def test_the_union_of_configs_has_the_modules_of_all():
    configs = [CognateConfig(**settings) for settings in ({}, {"memory": True}, {"refinement": True})]
    both = union_config(configs)
    assert both.memory and both.refinement and not configs[0].memory
    assert not union_config(configs[:1]).memory
    with pytest.raises(ConfigError, match=r"differ in hidden_size \[model 1\]: 64, but model 0 has 128"):
        union_config([configs[0], CognateConfig(hidden_size=64)])


def test_building_is_a_function_of_config_and_seed_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, again, other = (build(CognateConfig(hidden_size=32), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(first.model.embed_tokens.weight, other.model.embed_tokens.weight)


def test_a_fresh_model_predicts_uniformly():
    ids = some_ids(8, 32)
    loss = build(CognateConfig(), seed=0)(ids, labels=ids).loss.item()
    assert loss == pytest.approx(torch.tensor(272.0).log().item(), abs=0.1)


@pytest.mark.parametrize(("modules", "parameters"), [({}, 25_069_056), (VARIANTS["union"], None)])
def test_the_full_geometry_has_25_08_million_parameters_and_its_union_little_more(modules, parameters):
    shape = {"hidden_size": 512, "num_hidden_layers": 9, "num_attention_heads": 8, "intermediate_size": 1120}
    shape |= {
        "memory_size": 256,
        "memory_heads": 4,
        "memory_chunk": 32,
        "refinement_size": 512,
        "refinement_steps": 3,
    }
    with torch.device("meta"):
        model = CognateForCausalLM(CognateConfig(**shape | modules | {"num_key_value_heads": 8}))
    count = sum(p.numel() for p in model.parameters())
    print(count)
    assert count == (parameters or count) and count == pytest.approx(25.08e6, rel=1e-3 if parameters else 0.1)


def test_a_fresh_network_knows_after_its_first_block_which_token_it_stands_on_and_looks_at_the_one_before():
    config = CognateConfig(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4)
    model, ids = build(config, seed=0), torch.randint(4, 250, (4, 20), generator=torch.manual_seed(0))
    embedded = model.model.embed_tokens(ids)
    after = model.model(ids, output_hidden_states=True).hidden_states[1]
    assert torch.cosine_similarity(after, embedded, dim=-1).mean() > 0.2

    attention = model.model.layers[0].self_attn
    normed = model.model.layers[0].input_layernorm(embedded)
    angles = rotary(torch.arange(20)[None], attention.head_dim, config.rope_theta)
    query, key = (
        rotate(projection(normed)[..., : attention.head_dim].unsqueeze(1), *angles)[:, 0]
        for projection in (attention.q_proj, attention.k_proj)
    )
    scores = (query @ key.mT / attention.head_dim**0.5).masked_fill(
        torch.ones(20, 20).triu(1) > 0, -torch.inf
    )
    before = scores.softmax(-1)[:, range(1, 20), range(19)]
    assert before.mean() > 0.4  # of up to 20 tokens
