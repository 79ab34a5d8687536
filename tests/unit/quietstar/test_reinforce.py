"""REINFORCE against brute force: every thought of a small vocabulary, with its probability, reward and gradient."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from components.quietstar.reinforce import advantage, policy_loss, reward
from components.quietstar.thoughts import score_thoughts, talk_targets
from components.shared.models.remote_code.thoughts import encode_text

from .thinkers import END, START, make

LENGTH = 2


class Toy:
    """Three words, 0, 1 and </think>, and all seven thoughts of at most two tokens: ab, a</think>, </think>."""

    def __init__(self, temperature: float) -> None:
        self.model = make("llama")
        self.parameters = list(self.model.parameters())
        words = [0, 1, END]
        closed = torch.full((self.model.config.vocab_size,), -400.0)
        closed[words] = 0.0
        self.model.lm_head.register_forward_hook(lambda module, args, out: out + closed)
        self.thoughts = [
            list(z) for z in itertools.product(words, repeat=LENGTH) if END not in z[:-1] or z == (END, END)
        ]
        self.ids = torch.tensor([[0, 1, 1, 0]])
        self.position = torch.tensor([[1]])
        labels = self.ids.clone()
        self.targets = talk_targets(labels, self.position, torch.ones(1, 1, dtype=torch.bool), talk=2)
        self.temperature = temperature

    def worth(self, thoughts):
        """Thoughts as passes of one position: rewards (n,), log-probabilities (n, LENGTH)."""
        scores = score_thoughts(
            self.model,
            encode_text(self.model, self.ids),
            self.position,
            torch.tensor([thoughts]),
            self.targets,
            start=START,
            end=END,
            temperature=self.temperature,
        )
        return reward(scores.before, scores.mixed)[0, 0], scores.log_likelihood[0, 0]

    def gradient(self, scalar):
        grads = torch.autograd.grad(scalar, self.parameters, allow_unused=True)
        return torch.cat(
            [
                torch.zeros_like(p).flatten() if g is None else g.flatten()
                for g, p in zip(grads, self.parameters, strict=True)
            ]
        )

    def expected_estimate(self, *, passes, clamp):
        """Σ over all tuples of thoughts of p(tuple) · ∇policy_loss(tuple)."""
        rewards, log_p = self.worth(self.thoughts)
        p = log_p.sum(-1).exp().detach()
        total = torch.zeros(())
        for chosen in itertools.product(range(len(self.thoughts)), repeat=passes):
            index = list(chosen)
            gained = advantage(rewards[index][None, None], clamp=clamp)
            loss = policy_loss(log_p[index][None, None], gained, torch.ones(1, 1, dtype=torch.bool))
            total = total + p[index].prod() * loss
        return self.gradient(total)

    def exact(self, utility):
        """∇ Σ_z p(z) · utility(z), the utility held fixed."""
        _, log_p = self.worth(self.thoughts)
        return self.gradient((log_p.sum(-1).exp() * utility).sum())


@pytest.fixture(scope="module", params=[1.0, 3.0])
def toy(request):
    return Toy(request.param)


def test_the_enumeration_is_complete(toy):
    _, log_p = toy.worth(toy.thoughts)
    assert len(toy.thoughts) == 7
    assert float(log_p.detach().sum(-1).exp().sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("passes", [2, 3])
def test_without_the_clamp_the_expectation_is_the_exact_policy_gradient_shrunk_by_the_baseline(toy, passes):
    rewards, _ = toy.worth(toy.thoughts)
    exact = toy.exact(rewards)
    assert exact.norm() > 1e-3, "the toy must have something to learn"
    estimate = toy.expected_estimate(passes=passes, clamp=False)
    assert torch.allclose(estimate, -(passes - 1) / passes * exact, rtol=1e-3, atol=1e-6)


def test_with_the_clamp_it_is_the_exact_policy_gradient_of_the_expected_lead_over_a_rival(toy):
    rewards, log_p = toy.worth(toy.thoughts)
    p = log_p.sum(-1).exp().detach()
    lead = (rewards[:, None] - rewards[None, :]).clamp(min=0) @ p.to(rewards)
    assert (rewards.argsort() == lead.argsort()).all()
    estimate = toy.expected_estimate(passes=2, clamp=True)
    assert torch.allclose(estimate, -toy.exact(lead) / 2, rtol=1e-3, atol=1e-6)
    plain = toy.expected_estimate(passes=2, clamp=False)
    assert not torch.allclose(estimate, plain, rtol=1e-2), (
        "the clamp changes the estimate, and the README says so"
    )
    assert F.cosine_similarity(estimate, plain, dim=0) > 0


def test_the_reward_is_what_the_thought_saves_over_all_talk_tokens():
    before, mixed = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[0.5, 2.25]]]], requires_grad=True)
    saved = reward(before, mixed)
    assert saved.tolist() == [[[0.25]]] and not saved.requires_grad


def test_thoughts_below_the_mean_of_their_position_are_left_alone():
    rewards = torch.tensor([[[1.0, 3.0], [2.0, 2.0]]])
    assert advantage(rewards).tolist() == [[[0.0, 1.0], [0.0, 0.0]]]
    assert advantage(rewards, clamp=False).tolist() == [[[-1.0, 1.0], [0.0, 0.0]]]


def test_positions_that_are_padding_teach_nothing():
    log_p = torch.zeros(1, 2, 2, 3, requires_grad=True)
    policy_loss(log_p, torch.ones(1, 2, 2), torch.tensor([[True, False]])).backward()
    assert (log_p.grad[0, 0] == -0.5).all() and not log_p.grad[0, 1].any()


def test_following_the_estimate_finds_the_best_thought():
    """A free categorical policy over the toy's thoughts: gradient steps on sampled pairs end at the best reward."""
    rewards = torch.tensor([0.0, 0.3, 1.0, 0.5])
    logits = torch.zeros(4, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        drawn = torch.multinomial(logits.detach().softmax(0), 2 * 8, replacement=True, generator=generator)
        log_p = logits.log_softmax(0)[drawn].view(8, 1, 2, 1)
        loss = policy_loss(log_p, advantage(rewards[drawn].view(8, 1, 2)), torch.ones(8, 1, dtype=torch.bool))
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= gradient
    assert logits.softmax(0)[2] > 0.9
