"""The one training step: what it adds up, what it refuses, what it reports, and that it goes on exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.optim.optimizer import build_optimizer
from components.shared.optim.schedule import warmup_cosine
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.errors import PhaseFailed
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.training import side_by_side
from components.shared.training.loop import TrainingLoop, report_to, token_shares


def network():
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def rows(seed, count=6):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def loop_of(model, optimizer=None, **more):
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=0.1)
    options = {"clip": 1.0, "where": "toy", "fix": "lower toy.lr"} | more
    return TrainingLoop(model, {"model": optimizer}, **options)


def mean_square(model):
    def loss_of(part):
        loss = model(part).square().mean()
        return loss, {"square": loss.detach(), "rows": float(len(part))}

    return loss_of


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_a_step_is_what_torch_does_by_hand_clip_and_rate_included():
    ours, theirs = network(), network()
    update = loop_of(ours, clip=0.01).update([rows(0)], mean_square(ours), rate=0.5)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.05)
    loss = theirs(rows(0)).square().mean()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.01)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(weights(ours), weights(theirs), strict=True))
    assert (update.loss, update.gradient_norm) == (loss.item(), norm.item())


def test_weighted_parts_add_up_to_the_whole_in_gradient_loss_and_metrics():
    whole, in_parts = network(), network()
    expected = loop_of(whole).update([rows(0)], mean_square(whole), rate=1.0)
    parts = [rows(0)[:4], rows(0)[4:]]
    update = loop_of(in_parts).update(parts, mean_square(in_parts), rate=1.0, weights=[4 / 6, 2 / 6])
    for a, b in zip(weights(whole), weights(in_parts), strict=True):
        torch.testing.assert_close(a, b)
    assert update.loss == pytest.approx(expected.loss) == pytest.approx(update.metrics["square"])
    assert update.metrics["rows"] == pytest.approx(4 * 4 / 6 + 2 * 2 / 6)


def test_only_one_part_of_a_large_model_has_a_graph_at_a_time(monkeypatch):
    """The forward pass of a part begins after the backward pass of the one before."""
    monkeypatch.setattr(side_by_side, "SMALL", 0)
    model, seen = network(), []

    def loss_of(part):
        seen.append(model.weight.grad is None)
        return model(part).square().mean(), {}

    loop_of(model).update([rows(0), rows(1)], loss_of, rate=1.0)
    assert seen == [True, False]


def after_three_parts(threads):
    """Weights, loss and metrics after a step on three parts, with layers that are frozen and unused."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 8), nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 1), nn.Linear(1, 1)
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        parts, shares = [rows(0), rows(1), rows(2)], [0.2, 0.3, 0.5]
        update = loop_of(model).update(parts, mean_square(model[:3]), rate=1.0, weights=shares)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    return weights(model), update


@pytest.mark.parametrize("threads", [2, 3])
def test_parts_side_by_side_give_the_same_as_one_after_another_to_the_last_bit(threads):
    (ours, update), (expected, reference) = after_three_parts(threads), after_three_parts(1)
    assert update == reference
    assert all(torch.equal(a, b) for a, b in zip(ours, expected, strict=True))


def test_all_optimisers_step_together():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    optimizers = {
        str(n): torch.optim.SGD(layer.parameters(), lr=0.1) for n, layer in enumerate(model.children())
    }
    before = weights(model)
    loop = TrainingLoop(model, optimizers, clip=1.0, where="toy", fix="")
    loop.update([rows(0)], mean_square(model), rate=1.0)
    assert all(not torch.equal(a, b) for a, b in zip(weights(model), before, strict=True))


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_loss_or_a_gradient_that_is_not_finite_is_an_error_and_changes_no_weight(broken):
    model = network()
    before = weights(model)
    loop = loop_of(model)

    def loss_of(part):
        if broken == "loss":
            return model(part).mean() + math.inf, {}
        return (
            model(part).mean() - model(part).mean()
        ).sqrt(), {}  # √0: the loss is 0, its gradient is not finite

    with pytest.raises(PhaseFailed, match=r"the loss is (inf|0\.0) at step 0.*toy.*lower toy\.lr"):
        loop.update([rows(0)], loss_of, rate=1.0)
    assert loop.step == 0 and all(torch.equal(a, b) for a, b in zip(weights(model), before, strict=True))


def run(folder, stop_after=None):
    """Twelve steps with a checkpoint after each, or until one is stopped; the weights and what was noted."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    snapshot = Snapshot({"model": model}, {"model": optimizer}, state={"losses": []})
    checkpoints = Checkpoints(str(folder), "0" * 16, every=0.0)
    snapshot.restore(checkpoints)
    loop = loop_of(model, optimizer, snapshot=snapshot, checkpoints=checkpoints, step=snapshot.step)
    for step in range(loop.step, 12):
        update = loop.update([rows(step)], mean_square(model), rate=warmup_cosine(step, 12, 3))
        snapshot.state["losses"].append(update.loss)
        loop.end_step(update.metrics)
        if step == stop_after:
            break
    return weights(model), snapshot.state["losses"]


def test_a_loop_that_was_stopped_goes_on_to_the_same_weights(tmp_path):
    undisturbed, losses = run(tmp_path / "undisturbed")
    run(tmp_path / "stopped", stop_after=4)
    resumed, again = run(tmp_path / "stopped")
    assert all(torch.equal(a, b) for a, b in zip(undisturbed, resumed, strict=True))
    assert losses == again and len(losses) == 12


def test_checkpoints_are_numbered_through_the_loops_of_a_phase(tmp_path):
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    snapshot = Snapshot({"model": model}, {"model": optimizer})
    checkpoints = Checkpoints(str(tmp_path), "0" * 16, every=0.0)
    loop = loop_of(model, optimizer, snapshot=snapshot, checkpoints=checkpoints, offset=100)
    loop.update([rows(0)], mean_square(model), rate=1.0)
    loop.end_step({})
    assert checkpoints.restore().step == 101


class Recorded:
    def __init__(self):
        self.points = []

    def metrics(self, values, step):
        self.points.append((step, dict(values)))


def test_reports_go_to_the_progress_at_every_step_and_to_the_curves_as_often_as_asked():
    progress, tracker = Progress("toy"), Recorded()
    progress.start("train", 6, at=2)
    report = report_to(progress, tracker, prefix="arm/", offset=10, every=2)
    for step in (3, 4, 5, 6):
        report(step, {"loss": 1.0})
    assert progress.at == 6
    assert tracker.points == [(14, {"arm/loss": 1.0}), (16, {"arm/loss": 1.0})]


def test_shares_count_the_learnt_tokens_that_something_predicts():
    labels = [torch.tensor([[5, 5, 5, IGNORED]]), torch.tensor([[IGNORED, 4, 4, 4], [IGNORED, 4, 4, 4]])]
    batches = [Batch(each.clamp(min=0), each, torch.ones_like(each)) for each in labels]
    assert token_shares(batches) == [2 / 8, 6 / 8]


def small_llama():
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=61, **shape))


def two_steps(model, optimizer):
    """Losses of two steps on the same rows."""
    ids = torch.arange(24).reshape(2, 12)
    loop = loop_of(model, optimizer)
    updates = [
        loop.update([ids], lambda part: (model(input_ids=part, labels=part).loss, {}), rate=1.0)
        for _ in range(2)
    ]
    loop.finish()
    return [update.loss for update in updates]


def test_moments_of_8_bits_take_the_steps_of_32_but_for_their_rounding():
    ours, theirs = small_llama(), small_llama()
    optimizer = build_optimizer(ours, "adamw", 1e-3, bits=8)
    losses = two_steps(ours, optimizer)
    expected = two_steps(theirs, build_optimizer(theirs, "adamw", 1e-3))
    assert losses[0] == expected[0] and losses[1] == pytest.approx(expected[1], rel=1e-3)
    moments = optimizer.state[ours.model.layers[0].mlp.up_proj.weight]["state1"]
    assert moments.dtype == torch.uint8 and moments.count_nonzero() > 0
