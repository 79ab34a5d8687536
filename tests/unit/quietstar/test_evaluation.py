"""An evaluation counts right what greedy generation would answer, and a claim holds only where its interval says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.quietstar.evaluation import ItemScores, answer_positions, evaluate
from components.quietstar.findings import ACCURACY, NLL, claims, thought_samples
from components.quietstar.vocabulary import add_thought_tokens
from components.shared.evaluation.answers import correct
from components.shared.evaluation.suites import draw
from components.shared.evaluation.thinking import answers_with_thoughts
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.tasks.batches import IGNORED, encode, without_scratch
from components.shared.tasks.tokenizer import byte_tokenizer


@pytest.fixture(scope="module")
def items():
    return draw("chain", "search", 1, 24, 0)


@pytest.fixture(scope="module")
def learner(items):
    """A network that has learnt some of these very answers, with an open head: now right, now wrong, moved by thoughts."""
    tokenizer = byte_tokenizer()
    config = CognateConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    model, tokens = add_thought_tokens(build(config, seed=0), tokenizer, 3, seed=0)
    batch = encode([*items, *map(without_scratch, items)], tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        model(input_ids=batch.input_ids, labels=batch.labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.nn.init.normal_(model.talk_head.outward.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    return model.eval(), tokenizer, tokens


def test_an_answer_is_counted_right_exactly_when_greedy_generation_with_thoughts_gives_it(learner, items):
    model, tokenizer, tokens = learner
    scores = evaluate(model, tokenizer, items, "thoughts", tokens, batch=7)
    answers = answers_with_thoughts(model, tokenizer, items, batch=5, limit=4)
    assert scores.right == [text == item.answer for text, item in zip(answers, items, strict=True)]
    assert (
        scores.right
        == correct(lambda items: answers_with_thoughts(model, tokenizer, items), tokenizer, items).tolist()
    )


def test_the_modes_of_answering_differ_and_a_closed_head_makes_them_one(learner, items):
    model, tokenizer, tokens = learner
    modes = ("no thought", "pause", "thoughts", "shuffled")
    by_mode = {mode: evaluate(model, tokenizer, items, mode, tokens, batch=24) for mode in modes}
    assert len({tuple(scores.nll) for scores in by_mode.values()}) == 4
    assert 0 < sum(by_mode["no thought"].right) < 24, "the learner must be right now and then"
    weight = model.talk_head.outward.weight.detach().clone()
    model.talk_head.start_closed()
    closed = {mode: evaluate(model, tokenizer, items, mode, tokens, batch=24) for mode in modes}
    with torch.no_grad():
        model.talk_head.outward.weight.copy_(weight)
    assert all(scores == by_mode["no thought"] for scores in closed.values())


def test_without_a_thought_it_is_the_plain_evaluation(learner, items):
    model, tokenizer, tokens = learner
    assert (
        evaluate(model, tokenizer, items, "no thought", tokens, batch=9).right
        == correct(model, tokenizer, items).tolist()
    )


def test_answer_positions_are_the_columns_before_labelled_tokens():
    labels = torch.tensor([[IGNORED, IGNORED, 4, 5], [IGNORED, 6, IGNORED, IGNORED]])
    positions, valid = answer_positions(labels)
    assert [p[v].tolist() for p, v in zip(positions, valid, strict=True)] == [[1, 2], [0]]


class TestClaims:
    GOOD = ItemScores([True] * 60 + [False] * 4, np.linspace(0.1, 0.3, 64).tolist())
    BAD = ItemScores([False] * 50 + [True] * 14, np.linspace(1.1, 1.4, 64).tolist())

    MODES = ("input", "pause", "no thought", "before REINFORCE", "thoughts", "shuffled")

    def test_every_claim_comes_with_both_units_and_holds_in_the_better_direction_of_each(self):
        others = dict.fromkeys(self.MODES, self.BAD)
        results = claims(others | {"thoughts": self.GOOD, "no thought": self.GOOD})
        assert len(results) == 10 and {each["unit"] for each in results} == {ACCURACY, NLL}
        assert [each["holds"] for each in results] == [each["control"] != "no thought" for each in results]

    def test_where_thoughts_are_worse_no_claim_about_them_holds(self):
        results = claims(dict.fromkeys(self.MODES, self.GOOD) | {"thoughts": self.BAD})
        assert not any(each["holds"] for each in results)


def test_samples_show_the_thought(learner, items):
    model, tokenizer, _ = learner
    samples = thought_samples(model, tokenizer, items[:2])
    assert [each["expected"] for each in samples] == [item.answer for item in items[:2]]
    assert all(each["note"].startswith("thought: ") for each in samples)
