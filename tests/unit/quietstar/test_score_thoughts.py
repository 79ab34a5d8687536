"""Scoring all thoughts in one forward pass is scoring each one alone, gradients and all."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from components.quietstar.thoughts import choose_positions, score_thoughts, talk_targets
from components.shared.models.remote_code.thoughts import (
    continue_thoughts,
    enclose,
    encode_text,
    fork,
    head_of,
    silence,
)
from components.shared.tasks.batches import IGNORED

from .thinkers import END, START


def scores_of(model, text, positions, thoughts, talk=3, temperature=1.0):
    targets = talk_targets(text, positions, torch.ones_like(positions, dtype=torch.bool), talk)
    return score_thoughts(
        model,
        encode_text(model, text),
        positions,
        thoughts,
        targets,
        start=START,
        end=END,
        temperature=temperature,
    )


@pytest.fixture
def thoughts():
    """(2, 3 positions × 2 passes, 3), one of which ends early."""
    drawn = torch.randint(0, START, (2, 6, 3), generator=torch.Generator().manual_seed(4))
    drawn[0, 1, 1:] = END
    return drawn


POSITIONS = torch.tensor([[0, 3, 5], [1, 2, 6]])


@torch.no_grad()
def test_every_slot_is_the_plain_text_with_its_thought_written_into_it(models, text, thoughts, after):
    for kind in ("llama", "refinement"):
        model = models[kind]
        scores = scores_of(model, text, POSITIONS, thoughts, temperature=2.0)
        for row in range(2):
            for slot in range(6):
                position = int(POSITIONS[row, slot // 2])
                prefix = text[row, : position + 1].tolist()
                thought = [token for token in thoughts[row, slot].tolist() if token != END]
                context = [*prefix, START]
                for step, token in enumerate([*thought, *([END] if len(thought) < 3 else [])]):
                    log_p = F.log_softmax(silence(after(model, context)[0], (START,)) / 2.0, -1)[token]
                    assert float(scores.log_likelihood[row, slot // 2, slot % 2, step]) == pytest.approx(
                        float(log_p), abs=1e-4
                    )
                    context.append(token)
                context = [*prefix, START, *thought, END]
                for ahead in range(3):
                    target = position + 1 + ahead
                    mixed = scores.mixed[row, slot // 2, slot % 2, ahead]
                    if target >= 7:
                        assert mixed == 0
                        continue
                    base, base_hidden = after(model, text[row, :target].tolist())
                    logits, hidden = after(model, context)
                    logits = base + model.talk_head(base_hidden, hidden) * (logits - base)
                    expected = F.cross_entropy(logits, text[row, target])
                    assert float(mixed) == pytest.approx(float(expected), abs=1e-4)
                    before = F.cross_entropy(base, text[row, target])
                    assert float(scores.before[row, slot // 2, slot % 2, ahead]) == pytest.approx(
                        float(before), abs=1e-4
                    )
                    context.append(int(text[row, target]))
        assert not scores.log_likelihood[0, 0, 1, 2:].any(), "what follows a thought's end was no choice"


def test_its_gradients_are_those_of_growing_the_thoughts_step_by_step(model, text, thoughts):
    """The reference keeps the graph of every step; one pass over the known thoughts must differentiate to the same."""

    def gradients(loss):
        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]

    context = encode_text(model, text)
    slots = POSITIONS.repeat_interleave(2, 1)
    enclosed, padding_mask = enclose(thoughts, START, END)
    cache, steps = fork(context.cache), []
    for step in range(enclosed.shape[1]):
        hidden = continue_thoughts(
            model, context, cache, slots, enclosed[:, step : step + 1], padding_mask[:, : step + 1]
        )
        steps.append(head_of(model)(hidden[:, 0]))
    log_p = F.log_softmax(silence(torch.stack(steps[:3], 1), (START,)), -1)
    log_p = (
        log_p.gather(-1, thoughts.transpose(1, 2)[..., None])
        .squeeze(-1)
        .masked_fill(padding_mask[:, :3], 0.0)
    )
    expected = gradients(log_p.sum())
    scores = gradients(scores_of(model, text, POSITIONS, thoughts).log_likelihood.sum())
    scale = max(float(g.abs().max()) for g in expected)
    assert scale > 0.1
    for a, b in zip(scores, expected, strict=True):
        assert (a - b).abs().max() < 1e-4 * scale


def test_the_loss_of_a_thought_reaches_the_head_and_the_network(model, text, thoughts):
    model.zero_grad()
    scores_of(model, text, POSITIONS, thoughts).mixed.mean().backward()
    for name, parameter in model.named_parameters():
        if "halt" not in name:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    model.zero_grad()


class TestPositions:
    LABELS = torch.tensor(
        [[IGNORED, IGNORED, 5, 6, 7, IGNORED], [IGNORED, 4, IGNORED, IGNORED, IGNORED, IGNORED]]
    )

    def test_only_columns_before_a_labelled_token_are_drawn(self):
        positions, valid = choose_positions(self.LABELS, 2, torch.Generator().manual_seed(0))
        assert valid.tolist() == [[True, True], [True, True]] or valid.sum() == 3
        for row, column in zip(*valid.nonzero(as_tuple=True), strict=True):
            assert self.LABELS[row, positions[row, column] + 1] != IGNORED

    def test_every_such_column_is_drawn_sooner_or_later_and_none_twice(self):
        seen = set()
        for seed in range(30):
            positions, _ = choose_positions(self.LABELS, 2, torch.Generator().manual_seed(seed))
            assert len(set(positions[0].tolist())) == 2
            seen |= set(positions[0].tolist())
        assert seen == {1, 2, 3}

    def test_talk_targets_are_the_labelled_tokens_that_follow(self):
        positions, valid = torch.tensor([[1, 4], [0, 3]]), torch.tensor([[True, True], [True, False]])
        assert talk_targets(self.LABELS, positions, valid, 3).tolist() == [
            [[5, 6, 7], [IGNORED, IGNORED, IGNORED]],
            [[4, IGNORED, IGNORED], [IGNORED, IGNORED, IGNORED]],
        ]
