"""Quantisation, packing and exact latents."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis.extra import numpy as hnp

from components.shared.models.remote_code.ternary import (
    BitLinear,
    pack_ternary,
    quantise_activations,
    scale_of,
    straight_through,
    ternarise,
    to_latent,
    trits_of,
    unpack_ternary,
)

shapes = hnp.array_shapes(min_dims=1, max_dims=3, max_side=40)


@given(hnp.arrays(np.int8, shapes, elements=st.integers(-1, 1)))
@settings(max_examples=60, deadline=None)
def test_packing_and_unpacking_gives_the_trits_back_at_1_6_bits_each(trits):
    code = pack_ternary(trits)
    assert code.size == -(-trits.size // 5)
    assert np.array_equal(unpack_ternary(code, trits.size), trits.reshape(-1))


def test_packing_is_base_three_little_end_first():
    assert pack_ternary([1, -1, 0, 1, -1, 1]).tolist() == [2 + 0 + 9 + 54 + 0, 2 + 3 + 9 + 27 + 81]


def test_what_is_not_ternary_is_refused():
    with pytest.raises(ValueError, match="found -1 to 2"):
        pack_ternary([-1, 2])
    with pytest.raises(ValueError, match="no base-3 code of 5 trits"):
        unpack_ternary(np.array([243], np.uint8), 5)
    with pytest.raises(ValueError, match="no base-3 code of 6 trits"):
        unpack_ternary(np.array([0], np.uint8), 6)


def test_quantisation_is_the_papers_formula():
    w = torch.tensor([[0.9, -0.2, 0.05], [-2.0, 0.31, -0.7]])
    s = w.abs().mean()
    expected = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, -1.0]]) * s
    torch.testing.assert_close(ternarise(w), expected)


def test_the_error_on_gaussian_weights_is_that_of_absmean_ternary():
    """Its normalised mean square error on N(0, 1) is .263; the best three levels of all reach .190."""
    w = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))
    error = (w - ternarise(w)).square().mean() / w.square().mean()
    assert error.item() == pytest.approx(0.263, abs=0.003)


def test_activations_have_eight_bits_per_token():
    x = torch.randn(3, 50) * torch.tensor([[1e-3], [1.0], [1e3]])
    q = quantise_activations(x)
    steps = q * 127 / x.abs().amax(-1, keepdim=True)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert ((q - x).abs() <= 0.5001 * x.abs().amax(-1, keepdim=True) / 127).all()
    assert torch.equal(quantise_activations(torch.zeros(2, 4)), torch.zeros(2, 4))


@given(
    hnp.arrays(np.int8, shapes, elements=st.integers(-1, 1)),
    st.floats(2.0**-20, 2.0**20, width=32),
)
@example(np.array([1, 0, 0], np.int8), 0.1)
@example(np.ones(7, np.int8), 1 / 3)
@example(np.array([0, 0, -1] * 333, np.int8), 3.3e-5)
@settings(max_examples=300, deadline=None)
def test_latents_quantise_to_exactly_the_stored_trits_and_scale(trits, scale):
    latent = to_latent(torch.from_numpy(trits), torch.tensor(scale, dtype=torch.float32))
    found = scale_of(latent)
    assert torch.equal(trits_of(latent, found), torch.from_numpy(trits).float())
    if trits.any():
        assert found.item() == np.float32(scale)


@pytest.mark.parametrize("ones", [1, 2, 3, 700_001])
def test_latents_of_large_and_nearly_empty_tensors_are_exact_too(ones):
    trits = torch.zeros(5_000_000)
    trits[:ones] = -1
    latent = to_latent(trits, torch.tensor(0.0137))
    assert scale_of(latent) == torch.tensor(0.0137) and torch.equal(trits_of(latent, scale_of(latent)), trits)


def test_latents_are_the_scale_over_the_share_of_non_zeros():
    trits = torch.tensor([1.0, 0.0, -1.0, 0.0, 0.0])
    torch.testing.assert_close(to_latent(trits, torch.tensor(0.4)), trits)


def test_the_gradient_passes_straight_through_at_any_strength():
    x = torch.randn(4, 6, requires_grad=True)
    for strength in (0.0, 0.3, 1.0):
        y = straight_through(x, torch.round, strength)
        torch.testing.assert_close(y, x + strength * (x.round() - x))
        (gradient,) = torch.autograd.grad((y * 3).sum(), x)
        assert torch.equal(gradient, torch.full_like(x, 3.0))
    assert torch.equal(straight_through(x, torch.round), x.round())


def test_strength_leads_from_the_plain_layer_to_the_ternary_one():
    layer, x = BitLinear(24, 12), torch.randn(3, 24)
    layer.strength = 0.0
    torch.testing.assert_close(layer(x), x @ layer.weight.T)
    layer.strength = 1.0
    torch.testing.assert_close(layer(x), quantise_activations(x) @ ternarise(layer.weight).T)


def test_a_bitlinear_learns_a_ternary_function():
    torch.manual_seed(0)
    truth = torch.randint(-1, 2, (8, 16)).float() * 0.5
    layer, x = BitLinear(16, 8), torch.randn(256, 16)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (layer(x) - x @ truth.T).square().mean()
        loss.backward()
        optimizer.step()
    assert (
        loss < 0.02 and (trits_of(layer.weight, scale_of(layer.weight)) == truth.sign()).float().mean() > 0.98
    )
