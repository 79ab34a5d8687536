"""PonderNet halting against its formulas and against brute force."""

import math

import pytest
import torch
import torch.nn.functional as F

from components.shared.models.remote_code.refinement import Ponder, ponder_loss

from ..variants import cognate, some_ids


def refined(steps=4, **settings):
    model = cognate("reasoning", refinement_steps=steps, **settings)
    with torch.no_grad():
        model.model.refinement.halt.bias.fill_(-0.5)
        model.model.refinement.halt.weight.mul_(0.1)
    return model


def test_halting_probabilities_follow_the_definition_and_sum_to_one():
    model, ids = refined(), some_ids(2, 7)
    hidden = []
    model.model.refinement.block.register_forward_hook(lambda _m, _i, out: hidden.append(out))
    ponder = model.model(ids).ponder
    rates = [torch.sigmoid(model.model.refinement.halt(h))[..., 0] for h in hidden]
    left, expected = torch.ones(2, 7), []
    for n, rate in enumerate(rates):
        expected.append(left if n == 3 else rate * left)
        left = left * (1 - rate)
    torch.testing.assert_close(ponder.log_p.exp(), torch.stack(expected))
    torch.testing.assert_close(ponder.log_p.exp().sum(0), torch.ones(2, 7))


def test_a_token_takes_its_median_step():
    ponder = refined().model(some_ids(4, 16)).ponder
    p = ponder.log_p.exp()
    for b in range(4):
        for t in range(16):
            reached = next(n for n in range(4) if p[: n + 1, b, t].sum() >= 0.5 or n == 3)
            assert ponder.step[b, t] == reached
    assert len(ponder.step.unique()) > 1  # the choice is per token
    assert torch.equal(ponder.choose(ponder.states)[2, 5], ponder.states[ponder.step[2, 5], 2, 5])


def test_the_training_loss_is_the_expected_loss_plus_the_kl_term():
    model, ids = refined(steps=3, refinement_prior=0.3, refinement_beta=0.2).train(), some_ids(2, 9)
    labels = ids.masked_fill(torch.arange(9) < 4, -100)
    ponder = model.model(ids).ponder
    geometric = torch.tensor([0.3 * 0.7**n for n in range(3)])
    geometric /= geometric.sum()
    total, count = 0.0, 0
    for b in range(2):
        for t in range(3, 8):  # t predicts t + 1
            p = ponder.log_p[:, b, t].exp()
            for n in range(3):
                nll = F.cross_entropy(model.head(ponder.states[n, b, t]), ids[b, t + 1])
                total = total + p[n] * (nll + 0.2 * torch.log(p[n] / geometric[n]))
            count += 1
    torch.testing.assert_close(model(ids, labels=labels).loss, total / count)


def test_outside_training_the_loss_is_that_of_the_output():
    model, ids = refined().eval(), some_ids(2, 9)
    out = model(ids, labels=ids)
    torch.testing.assert_close(
        out.loss, F.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    )


def test_the_kl_term_vanishes_exactly_where_halting_is_geometric():
    log_p = torch.log_softmax(torch.arange(5.0) * math.log(0.6), dim=0)[:, None]
    losses = torch.full((5, 1), 2.0)
    assert ponder_loss(log_p, losses, prior=0.4, beta=10.0).item() == pytest.approx(2.0)
    assert ponder_loss(log_p.flip(0), losses, prior=0.4, beta=10.0) > 2.5


def test_a_fresh_refinement_halts_at_the_rate_of_its_prior_and_starts_closed():
    fresh = cognate("reasoning", open_gates=False, refinement_steps=3, refinement_prior=0.25)
    fresh.model.refinement.start_closed()
    ponder = fresh.model(some_ids(1, 4)).ponder
    torch.testing.assert_close(ponder.log_p[:, 0, 0].exp(), torch.tensor([0.25, 0.1875, 0.5625]))
    assert torch.equal(ponder.states[0], ponder.states[2])


def test_gradients_reach_the_block_the_halting_head_and_the_gate():
    model, ids = refined().train(), some_ids(2, 9)
    model(ids, labels=ids).loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in model.model.refinement.parameters())


def test_a_frozen_gate_leaves_the_plain_loss():
    model, ids = refined().train(), some_ids(2, 9)
    model.model.refinement.gate.requires_grad_(False)
    out = model(ids, labels=ids)
    torch.testing.assert_close(
        out.loss, F.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    )


def test_choosing_picks_each_tokens_own_step():
    ponder = Ponder(torch.arange(12.0).view(3, 2, 2), torch.zeros(3, 2, 2), torch.tensor([[0, 2], [1, 1]]))
    assert ponder.choose(ponder.states).tolist() == [[0.0, 9.0], [6.0, 7.0]]
