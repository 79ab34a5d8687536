"""The neural memory against the plain recurrence of its definition, token by token."""

import pytest
import torch

from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.memory import (
    MemoryState,
    NeuralMemory,
    Tokens,
    read_at,
    read_in_order,
    write,
)


def random_tokens(batch, length, *, heads=2, size=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    k, v, q = (torch.randn(batch, heads, length, size, generator=g, dtype=torch.float64) for _ in range(3))
    eta, keep, theta = (torch.rand(batch, heads, length, generator=g, dtype=torch.float64) for _ in range(3))
    real = torch.ones(batch, length, dtype=torch.bool)
    return Tokens(k, v, eta.log(), keep.log(), theta, real), q


def recurrence(tokens, q, chunk):
    """S_t = η_t S_{t−1} − θ_t ∇ℓ(M_c; x_t), M_t = (1 − α_t) M_{t−1} + S_t, y_t = q_t M_t; M_c from the
    chunk's start.

    The gradient comes from autograd, on ½‖k M − v‖²."""
    batch, heads, length, size = q.shape
    y = torch.zeros_like(q)
    for b in range(batch):
        for h in range(heads):
            m, s, written = torch.zeros(size, size).double(), torch.zeros(size, size).double(), 0
            for t in range(length):
                if tokens.real[b, t]:
                    if written % chunk == 0:
                        start = m.clone().requires_grad_()
                    k, v = tokens.k[b, h, t], tokens.v[b, h, t]
                    (slope,) = torch.autograd.grad(0.5 * (k @ start - v).square().sum(), start)
                    s = tokens.log_eta[b, h, t].exp() * s - tokens.theta[b, h, t] * slope
                    m = tokens.log_keep[b, h, t].exp() * m + s
                    written += 1
                y[b, h, t] = q[b, h, t] @ m
    return y


@pytest.mark.parametrize(("length", "chunk"), [(1, 4), (4, 4), (7, 4), (16, 4), (13, 5), (6, 64)])
def test_the_chunked_form_equals_the_token_by_token_recurrence(length, chunk):
    tokens, q = random_tokens(2, length)
    zero = torch.zeros(2, 2, 5, 5).double()
    run = write(tokens, zero, zero, chunk, tokens.real.cumsum(1))
    count, width = run.k.shape[2:4]
    padded = torch.nn.functional.pad(q, (0, 0, 0, count * width - length)).unflatten(2, (count, width))
    y = read_in_order(run, padded).flatten(2, 3)[:, :, :length]
    expected = recurrence(tokens, q, chunk)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(read_at(run, q, tokens.real.cumsum(1)), expected)


def test_padding_neither_writes_nor_moves_the_chunks():
    tokens, q = random_tokens(3, 14, seed=3)
    tokens.real[0, 9:] = tokens.real[1, 4:] = False
    zero = torch.zeros(3, 2, 5, 5).double()
    run = write(tokens, zero, zero, 4, tokens.real.cumsum(1))
    torch.testing.assert_close(read_at(run, q, tokens.real.cumsum(1)), recurrence(tokens, q, 4))


def test_before_the_first_token_the_memory_is_what_it_was_given():
    tokens, q = random_tokens(2, 6, seed=4)
    memory = torch.randn(2, 2, 5, 5).double()
    run = write(tokens, memory, torch.randn(2, 2, 5, 5).double(), 4, tokens.real.cumsum(1))
    torch.testing.assert_close(read_at(run, q, torch.zeros(2, 6, dtype=torch.long)), q @ memory)


def memory_module(**settings):
    torch.manual_seed(0)
    module = NeuralMemory(
        CognateConfig(hidden_size=16, memory_size=8, memory_chunk=4, memory=True, **settings)
    )
    torch.nn.init.normal_(module.gate)
    torch.nn.init.normal_(module.rates.bias, std=3)
    return module


def test_it_recalls_an_association_that_it_wrote_once():
    """Key and value written once among other keys: reading with the key gives the value's direction."""
    g = torch.Generator().manual_seed(1)
    k = torch.nn.functional.normalize(torch.randn(1, 1, 8, 32, generator=g), dim=-1)
    v = torch.randn(1, 1, 8, 32, generator=g)
    flat = torch.zeros(1, 1, 8)
    tokens = Tokens(
        k, v, flat - 20, flat, flat + 1, torch.ones(1, 8, dtype=torch.bool)
    )  # η = 0, α = 0, θ = 1
    run = write(tokens, torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32), 8, tokens.real.cumsum(1))
    read = read_at(run, k, torch.full((1, 8), 8))
    nearest = torch.cosine_similarity(read[0, 0, :, None], v[0, 0, None], dim=-1).argmax(-1)
    assert nearest.tolist() == list(range(8))


def test_thousands_of_equal_tokens_do_not_blow_it_up():
    module = memory_module()
    x = torch.randn(1, 1, 16).expand(1, 4000, 16)
    state = MemoryState()
    with torch.no_grad():
        y = module(x, state=state)
    assert torch.isfinite(y).all() and state.memory.abs().max() < 100


def test_the_cache_keeps_the_unfinished_chunk_only():
    module, state = memory_module(), MemoryState()
    with torch.no_grad():
        for piece in torch.randn(2, 11, 16).split([6, 5], dim=1):
            module(piece, state=state)
    assert state.tokens.real.shape == (2, 3) and state.columns == 11


def test_gradients_reach_every_parameter_of_an_open_memory():
    module = memory_module()
    module(torch.randn(2, 11, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_reading_before_the_latest_run_is_refused():
    module, state = memory_module(), MemoryState()
    x = torch.randn(1, 5, 16)
    module(x, state=state)
    module(x, state=state)
    mask = torch.zeros(1, 1, 1, 11, dtype=torch.bool)
    mask[..., :3] = True
    with pytest.raises(ValueError, match="further back than the last written run"):
        module(x[:, :1], mask, state)
