"""What thinking at a real vocabulary must not hold: logits at every token of every thought."""

from __future__ import annotations

import pytest
import torch

from components.quietstar.training_loss import text_loss, thought_loss
from components.quietstar.vocabulary import ThoughtTokens
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.training import head
from tests.unit.shared.training.largest import Largest

VOCABULARY, ROWS, WIDTH, POSITIONS, PASSES, LENGTH, TALK = 3000, 2, 12, 4, 2, 3, 2


def thinker() -> torch.nn.Module:
    """A small Cognate that can think, at a vocabulary that is large beside it."""
    geometry = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    thoughts = {"length": LENGTH, "mixing": True, "start": 1, "end": 2}
    model = build(CognateConfig(vocab_size=VOCABULARY, thoughts=thoughts, **geometry), seed=0)
    torch.nn.init.constant_(model.talk_head.outward.weight, 0.1)
    return model.train()


def questions() -> Batch:
    """Rows of which the second half is learnt."""
    ids = torch.randint(4, VOCABULARY, (ROWS, WIDTH), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, : WIDTH // 2] = IGNORED
    return Batch(ids, labels, torch.ones_like(ids))


def losses(model: torch.nn.Module) -> dict[str, float]:
    """One step's losses, forward and backward, and the norm of the gradient."""
    model.zero_grad()
    thought = thought_loss(
        model, questions(), "thoughts", ThoughtTokens(1, 2, 3), torch.Generator().manual_seed(0),
        reinforce=True, positions=POSITIONS, passes=PASSES, length=LENGTH, talk=TALK, temperature=1.0,
        policy_temperature=1.0, policy_weight=1.0, clamp=True,
    )  # fmt: skip
    text = text_loss(model, questions(), 1.0)
    (thought.loss + text.loss).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return thought.metrics | text.metrics | {"loss": thought.loss.item(), "norm": norm.item()}


def test_a_step_holds_logits_of_a_chunk_at_a_time_and_its_losses_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, tokens_of_thoughts = thinker(), ROWS * POSITIONS * PASSES * (LENGTH + TALK + 1)
    with Largest() as whole:
        expected = losses(model)
    monkeypatch.setattr(head, "CHUNK", 4 * VOCABULARY)
    with Largest() as seen:
        found = losses(model)
    assert found == pytest.approx(expected, rel=1e-5)
    one_token_of_each = ROWS * POSITIONS * PASSES * VOCABULARY  # what sampling looks at in a step
    assert seen.elements <= max(one_token_of_each, 16 * VOCABULARY)
    assert seen.elements < whole.elements < tokens_of_thoughts * VOCABULARY
