"""Recovery: vectors learn to make up for coded matrices, or stay exactly as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.compression.allocation.evaluator import Evaluator, codable
from components.compression.codecs import ectcq
from components.compression.recovery import recover
from components.shared.evaluation.suites import suite_items
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.unit.compression.weights import weight_of

TRAINING, HELD_OUT = (
    suite_items("efficiency", split=split, items=48, seed=0) for split in ("train", "search")
)


@pytest.fixture
def evaluator() -> Evaluator:
    """A model with opinions: its embeddings are loud."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = build(CognateConfig(**shape), seed=0).eval().requires_grad_(False)
    model.model.embed_tokens.weight *= 15
    return Evaluator(model, byte_tokenizer(), 64)


def coarse(evaluator: Evaluator) -> dict[str, np.ndarray]:
    """Every matrix at about one bit and a half."""
    weights = {}
    for path, module in codable(evaluator.model, 512).items():
        w = weight_of(module)
        weights[path] = ectcq.decode(ectcq.encode(w, step=1.5, memory=0))
    return weights


def vectors(evaluator: Evaluator) -> list[torch.Tensor]:
    return [p.detach().clone() for p in evaluator.model.parameters() if p.ndim < 2]


def test_held_out_answers_come_nearer_to_those_of_the_model_that_was_coded(evaluator: Evaluator) -> None:
    training, held_out, before = (
        evaluator.reference(TRAINING),
        evaluator.reference(HELD_OUT),
        vectors(evaluator),
    )
    matrices = {path: weight_of(module) for path, module in codable(evaluator.model, 512).items()}
    with evaluator.with_weights(coarse(evaluator)):
        outcome = recover(evaluator, training, held_out, steps=40, lr=0.01, progress=Progress("compression"))
        assert evaluator.kl_increase(held_out) == pytest.approx(outcome.after)
    assert outcome.kept and outcome.after < 0.9 * outcome.before
    after = vectors(evaluator)
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.equal(p, p.half().float()) for p in after)  # as they will be stored
    for path, module in codable(evaluator.model, 512).items():
        assert np.array_equal(weight_of(module), matrices[path])


def test_what_does_not_help_is_taken_back_to_the_last_bit(evaluator: Evaluator) -> None:
    training, held_out, before = (
        evaluator.reference(TRAINING),
        evaluator.reference(HELD_OUT),
        vectors(evaluator),
    )
    with evaluator.with_weights(coarse(evaluator)):
        outcome = recover(evaluator, training, held_out, steps=3, lr=50.0, progress=Progress("compression"))
    assert not outcome.kept
    assert all(torch.equal(a, b) for a, b in zip(before, vectors(evaluator), strict=True))
