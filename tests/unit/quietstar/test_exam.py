"""The exam marks what greedy generation would answer, and a claim holds only where its interval says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.quietstar.exam import Marks, answer_positions, sit
from components.quietstar.findings import ACCURACY, NLL, claims, show
from components.quietstar.vocabulary import teach_words
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
def pupil(items):
    """A network that has learnt some of these very answers, with an open head: now right, now wrong, moved by thoughts."""
    tokenizer = byte_tokenizer()
    config = CognateConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    model, words = teach_words(build(config, seed=0), tokenizer, 3, seed=0)
    batch = encode([*items, *map(without_scratch, items)], tokenizer)
    rule = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        model(input_ids=batch.input_ids, labels=batch.labels).loss.backward()
        rule.step()
        rule.zero_grad()
    torch.nn.init.normal_(model.talk_head.outward.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    return model.eval(), tokenizer, words


def test_an_answer_is_marked_right_exactly_when_greedy_generation_with_thoughts_gives_it(pupil, items):
    model, tokenizer, words = pupil
    marks = sit(model, tokenizer, items, "thoughts", words, batch=7)
    said = answers_with_thoughts(model, tokenizer, items, batch=5, limit=4)
    assert marks.right == [text == item.answer for text, item in zip(said, items, strict=True)]
    assert (
        marks.right
        == correct(lambda asked: answers_with_thoughts(model, tokenizer, asked), tokenizer, items).tolist()
    )


def test_the_ways_of_answering_differ_and_a_closed_head_makes_them_one(pupil, items):
    model, tokenizer, words = pupil
    ways = ("no thought", "pause", "thoughts", "shuffled")
    found = {way: sit(model, tokenizer, items, way, words, batch=24) for way in ways}
    assert len({tuple(marks.nll) for marks in found.values()}) == 4
    assert 0 < sum(found["no thought"].right) < 24, "the pupil must be right now and then"
    weight = model.talk_head.outward.weight.detach().clone()
    model.talk_head.start_closed()
    closed = {way: sit(model, tokenizer, items, way, words, batch=24) for way in ways}
    with torch.no_grad():
        model.talk_head.outward.weight.copy_(weight)
    assert all(marks == found["no thought"] for marks in closed.values())


def test_without_a_thought_it_is_the_plain_evaluation(pupil, items):
    model, tokenizer, words = pupil
    assert (
        sit(model, tokenizer, items, "no thought", words, batch=9).right
        == correct(model, tokenizer, items).tolist()
    )


def test_answer_positions_are_the_columns_before_labelled_tokens():
    labels = torch.tensor([[IGNORED, IGNORED, 4, 5], [IGNORED, 6, IGNORED, IGNORED]])
    positions, valid = answer_positions(labels)
    assert [p[v].tolist() for p, v in zip(positions, valid, strict=True)] == [[1, 2], [0]]


class TestClaims:
    GOOD = Marks([True] * 60 + [False] * 4, np.linspace(0.1, 0.3, 64).tolist())
    BAD = Marks([False] * 50 + [True] * 14, np.linspace(1.1, 1.4, 64).tolist())

    WAYS = ("input", "pause", "no thought", "before REINFORCE", "thoughts", "shuffled")

    def test_every_claim_comes_with_both_units_and_holds_in_the_better_direction_of_each(self):
        others = dict.fromkeys(self.WAYS, self.BAD)
        found = claims(others | {"thoughts": self.GOOD, "no thought": self.GOOD})
        assert len(found) == 10 and {each["unit"] for each in found} == {ACCURACY, NLL}
        assert [each["holds"] for each in found] == [each["control"] != "no thought" for each in found]

    def test_where_thoughts_are_worse_no_claim_about_them_holds(self):
        found = claims(dict.fromkeys(self.WAYS, self.GOOD) | {"thoughts": self.BAD})
        assert not any(each["holds"] for each in found)


def test_samples_show_the_thought(pupil, items):
    model, tokenizer, _ = pupil
    shown = show(model, tokenizer, items[:2])
    assert [each["expected"] for each in shown] == [item.answer for item in items[:2]]
    assert all(each["note"].startswith("thought: ") for each in shown)
