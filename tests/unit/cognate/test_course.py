"""A course: the gradient of a step is that of its whole batch, and what has converged ends."""

import pytest
import torch

from components.cognate.course import token_loss, train
from components.shared.evaluation.answers import batches
from components.shared.models.loading import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.loop import token_shares

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}


def network(**more):
    return build(CognateConfig(**SHAPE, memory_size=16, refinement_size=32, **more), seed=0)


@pytest.mark.parametrize("modules", [{}, {"memory": True}, {"refinement": True}])
def test_rows_in_parts_give_the_gradient_of_the_whole_batch(modules):
    model, tokenizer = network(**modules), byte_tokenizer()
    items = mixture({"copy": 1, "cloze": 1, "recall": 1}, [1, 3], "train", 0, 0, 12)
    results = []
    for parts in ([encode(items, tokenizer)], [batch for _, batch in batches(items, tokenizer, 5)]):
        model.train().zero_grad()
        losses = [
            share * token_loss(model, batch)[0]
            for share, batch in zip(token_shares(parts), parts, strict=True)
        ]
        sum(losses).backward()
        results.append(
            (float(sum(losses).detach()), {name: p.grad.clone() for name, p in model.named_parameters()})
        )
    (whole, gradients), (in_parts, gradients_in_parts) = results
    assert whole == pytest.approx(in_parts, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_in_parts[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def run(folder, *, lr=1e-12, clip=1.0, opening_steps=0, opening_loss=0.0):
    """A course of at most 40 steps with a window of 10; its losses step by step, and its curve."""
    model, tokenizer, losses = network(), byte_tokenizer(), []

    def draw(step, opening):
        items = mixture({"recall" if opening else "copy": 1.0}, [1], "train", 0, step, 8)
        return [batch for _, batch in batches(items, tokenizer, 4)]

    steps, curve = train(
        model,
        build_optimizer(model, "muon", lr),
        draw,
        name="trunk",
        steps=40,
        warmup=2,
        decay=0.3,
        opening_steps=opening_steps,
        opening_loss=opening_loss,
        window=10,
        tolerance=0.5,
        clip=clip,
        checkpoints=Checkpoints(str(folder), "0" * 16),
        report=lambda step, metrics: losses.append(metrics["loss"]),
    )
    assert steps == len(losses)
    return losses, curve


def test_a_course_that_has_converged_ends_by_a_whole_decay(tmp_path):
    """With a rate of zero nothing improves: after a window of 10 the last 30% of 40 steps follow, and that is all."""
    losses, curve = run(tmp_path)
    assert len(losses) == 10 + 12 == curve["step"][-1]


def test_the_opening_has_a_mixture_of_its_own_and_does_not_count_as_convergence(tmp_path):
    losses, _ = run(tmp_path, opening_steps=12)
    assert len(losses) == 12 + 10 + 12
    alone, _ = run(tmp_path)
    assert losses[0] != alone[0] and losses[12] == pytest.approx(alone[12], rel=1e-6)


def test_an_opening_ends_once_it_is_learnt(tmp_path):
    """Any loss is below 99: after ten steps the opening is over, and the window of convergence begins."""
    losses, _ = run(tmp_path, opening_steps=30, opening_loss=99.0)
    assert len(losses) == 10 + 10 + 12


def test_a_loss_that_is_not_finite_stops_the_course_and_says_what_to_lower(tmp_path):
    with pytest.raises(PhaseFailed, match=r"at step \d+.*cognate\.trunk.*learning rate"):
        run(tmp_path, lr=1e30, clip=1e30)
