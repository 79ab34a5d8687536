"""Singular value fine-tuning."""

import pytest
import torch

from components.shared.models.remote_code import experts
from components.shared.models.remote_code.experts import recompose, set_expert, svd_of
from components.shared.models.remote_code.ternary import BitLinear

from ..variants import cognate, some_ids
from .test_coded import coded_twin

PATHS = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")


def vectors(model, value=1.0):
    return {path: torch.full((min(model.get_submodule(path).weight.shape),), value) for path in PATHS}


def test_recomposition_is_the_papers_formula():
    w, z = torch.randn(6, 9), torch.rand(6)
    u, sigma, vt = torch.linalg.svd(w, full_matrices=False)
    torch.testing.assert_close(recompose(w, z), u @ torch.diag(sigma * z) @ vt)
    torch.testing.assert_close(recompose(w, torch.ones(6)), w)


@pytest.mark.parametrize("make", [cognate, lambda: coded_twin(cognate())])
def test_an_expert_changes_the_function_and_the_base_comes_back_exactly(make):
    model, ids = make(), some_ids(2, 9)
    before, state = model(ids).logits, {k: v.clone() for k, v in model.state_dict().items()}
    set_expert(model, vectors(model, 1.0))
    torch.testing.assert_close(model(ids).logits, before, rtol=1e-3, atol=1e-3)
    set_expert(model, vectors(model, 1.5))  # one expert straight after another
    torch.testing.assert_close(
        model.get_submodule(PATHS[0]).weight,
        1.5 * make().get_submodule(PATHS[0]).weight,
        rtol=1e-4,
        atol=1e-5,
    )
    assert not torch.allclose(model(ids).logits, before, atol=0.1)
    set_expert(model, None)
    assert torch.equal(model(ids).logits, before)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert [n for n, _ in model.named_parameters()] == [
        n for n, _ in make().named_parameters()
    ] or make is not cognate


@pytest.mark.parametrize("make", [cognate, lambda: coded_twin(cognate())])
def test_z_gets_the_gradient_that_finite_differences_give(make):
    model, ids = make(), some_ids(2, 9)
    z = {path: vector.requires_grad_() for path, vector in vectors(model).items()}

    def loss(z):
        set_expert(model, z)
        return model(ids, labels=ids).loss

    loss(z).backward()
    for path in PATHS:
        assert z[path].grad.abs().sum() > 0
    at, step = z[PATHS[0]], torch.zeros_like(z[PATHS[0]])
    step[at.grad.abs().argmax()] = 1e-2
    with torch.no_grad():
        slope = (loss(z | {PATHS[0]: at + step}) - loss(z | {PATHS[0]: at - step})) / 2e-2
    assert slope.item() == pytest.approx(at.grad[step > 0].item(), rel=0.03)


def test_training_z_lowers_the_loss_and_leaves_the_base_untouched():
    model, ids = cognate(), some_ids(4, 9)
    base = model.state_dict()[f"{PATHS[0]}.weight"].clone()
    z = {path: torch.nn.Parameter(vector) for path, vector in vectors(model).items()}
    optimizer = torch.optim.Adam(z.values(), lr=0.05)
    losses = []
    for _ in range(15):
        set_expert(model, z)
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    set_expert(model, None)
    assert losses[-1] < losses[0] - 0.05
    assert torch.equal(model.state_dict()[f"{PATHS[0]}.weight"], base)


def test_the_svd_is_computed_once_for_a_weight_and_anew_for_a_changed_one(monkeypatch):
    calls, real = [], torch.linalg.svd
    monkeypatch.setattr(experts.torch.linalg, "svd", lambda *a, **k: calls.append(1) or real(*a, **k))
    w = torch.randn(5, 4)
    svd_of(w), svd_of(w.clone()), recompose(w, torch.ones(4))
    assert len(calls) == 1
    svd_of(w + 1)
    assert len(calls) == 2


def test_the_gradient_of_z_is_autograds_bit_for_bit():
    w, z, towards = torch.randn(6, 9), torch.rand(6), torch.randn(6, 9)
    u, sigma, vt = svd_of(w)
    ours, plain = z.clone().requires_grad_(), z.clone().requires_grad_()
    recompose(w, ours).backward(towards)
    ((u * (sigma * plain)) @ vt).backward(towards)
    assert torch.equal(ours.grad, plain.grad)


def test_under_autocast_a_weight_is_put_together_in_float32_and_kept_as_layers_compute():
    w, z = torch.randn(40, 50), torch.rand(40)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(recompose(w, z), recompose_plainly(w, z).bfloat16())


def recompose_plainly(w, z):
    with torch.autocast("cpu", enabled=False):
        return recompose(w, z)


def test_wrong_vectors_and_layers_in_training_are_refused():
    model = cognate()
    with pytest.raises(ValueError, match=r"z has shape \(3,\); a matrix \(32, 32\) takes \(32,\)"):
        set_expert(model, {PATHS[0]: torch.ones(3)})
    model.model.layers[0].self_attn.q_proj = BitLinear(32, 32)
    with pytest.raises(ValueError, match="load the model with trainable=False"):
        set_expert(model, {PATHS[0]: torch.ones(32)})
