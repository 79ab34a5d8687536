"""Answers do not depend on which prompts go together, nor on the threads that they go in."""

from __future__ import annotations

import pytest
import torch

from components.shared.evaluation import sampling
from components.shared.evaluation.sampling import sample_answers
from tests.unit.shared.models.variants import cognate

EOS, LIMIT = 258, 6
PROMPTS = [[257, *range(65, 65 + length)] for length in (3, 9, 1, 17, 4, 9)]


@pytest.fixture
def threads():
    """Sets torch's threads, and puts them back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_prompts_that_are_padded_together_are_answered_as_each_alone():
    model = cognate("union")
    alone = [sample_answers(model, [p], stops=(EOS,), limit=LIMIT, temperature=0.0)[0] for p in PROMPTS]
    assert sample_answers(model, PROMPTS, stops=(EOS,), limit=LIMIT, temperature=0.0) == alone


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_the_same_in_any_number_of_threads(monkeypatch, threads, temperature):
    monkeypatch.setattr(sampling, "ROWS", 2)
    monkeypatch.setattr(sampling, "PIECE", 4)
    model, answers = cognate("union"), []
    for count in (1, 2):
        threads(count)
        generator = torch.Generator().manual_seed(5)
        answers.append(
            sample_answers(
                model, PROMPTS, stops=(EOS,), limit=LIMIT, temperature=temperature, generator=generator
            )
        )
    assert answers[0] == answers[1]
    assert all(1 <= len(answer) <= LIMIT for answer in answers[0])
