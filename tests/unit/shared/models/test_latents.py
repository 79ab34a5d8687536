"""Latents for a stored ternary network: the same function, spread over the cells of their trits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.bitnet.conversion import convert
from components.shared.models.latents import MARGIN, save_trained, spread, spread_latents
from components.shared.models.loading import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.ternary import BitLinear, scale_of, to_latent, trits_of
from components.shared.runtime.artifact.weights import describe
from components.shared.tasks.tokenizer import byte_tokenizer


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=80, deadline=None)
@example(2, 0.5, 1e-4, 0)
@given(st.integers(1, 3000), st.floats(0.02, 1), st.floats(1e-4, 10), st.integers(0, 99))
def test_trits_and_scale_come_out_to_the_last_bit(count, density, scale, seed):
    source = generator(seed)
    trits = torch.randn(count, generator=source).sign() * (torch.rand(count, generator=source) < density)
    trits[0] = 1.0
    wanted = torch.tensor(scale, dtype=torch.float32)
    latent = spread(trits, wanted, generator(seed))
    assert torch.equal(scale_of(latent), wanted)
    assert torch.equal(trits_of(latent, wanted), trits)


def test_weights_of_one_trit_are_spread_over_their_cell_and_keep_off_its_border():
    trits = torch.randint(-1, 2, (20000,), generator=generator()).float()
    latent = spread(trits, torch.tensor(1.0), generator(1))
    zeros, others = latent[trits == 0].abs(), latent[trits != 0].abs()
    assert zeros.max() <= 0.5 - MARGIN + 1e-3 and others.min() >= 0.5 + MARGIN - 1e-3
    for part in (zeros, others):
        places = (part - part.min()) / (part.max() - part.min())
        assert (torch.histc(places, 4, 0, 1) / len(part)).tolist() == pytest.approx([0.25] * 4, abs=0.02)


def test_spread_latents_flip_one_after_another_where_packed_ones_flip_all_at_once():
    """The same push on every zero: how many have flipped after a share of the way to the last of them?"""
    trits = torch.randint(-1, 2, (5000,), generator=generator()).float()
    scale = torch.tensor(1.0)

    def flipped(latent, push):
        return float((trits_of(latent + push, scale) != trits)[trits == 0].float().mean())

    packed, spread_out = to_latent(trits, scale), spread(trits, scale, generator(1))
    assert flipped(packed, 0.45) == 0.0 and flipped(packed, 0.55) == 1.0
    assert 0.15 < flipped(spread_out, 0.25) < 0.35
    assert 0.4 < flipped(spread_out, 0.5) < 0.6


def test_a_model_with_spread_latents_is_the_same_function_and_plain_layers_stay():
    model = torch.nn.Sequential(torch.nn.Linear(24, 32), BitLinear(32, 32), BitLinear(32, 8))
    before = [module.weight.detach().clone() for module in model]
    x = torch.randn(5, 24)
    wanted = model(x)
    spread_latents(model, generator())
    assert torch.equal(model(x), wanted)
    assert torch.equal(model[0].weight, before[0]) and not torch.equal(model[1].weight, before[1])


def test_a_layer_of_zeros_stays_one():
    layer = BitLinear(16, 16)
    torch.nn.init.zeros_(layer.weight)
    spread_latents(layer, generator())
    assert not layer.weight.any()


@pytest.mark.parametrize("ternary", [True, False])
def test_a_trained_model_is_stored_in_its_own_kind_and_comes_back_as_the_same_function(ternary, tmp_path):
    config = CognateConfig(
        vocab_size=272,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    model = build(config, seed=0)
    if ternary:
        convert(model, {})
    ids = torch.arange(1, 17)[None]
    stored = save_trained(model, byte_tokenizer(), tmp_path, "# A model").eval()
    with torch.no_grad():  # the model itself is rounded where what is stored is
        torch.testing.assert_close(stored(ids).logits, model.eval()(ids).logits, rtol=0, atol=1e-5)
    kinds = {entry["dtype"] for entry in describe(tmp_path)[0].values()}
    assert kinds == ({"U8", "F16"} if ternary else {"F32"})
