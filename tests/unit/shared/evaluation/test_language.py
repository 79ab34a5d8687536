"""The five suites, asked of a model with a language of its own: examples in front, choices by likelihood."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.shared.evaluation.suites import (
    LANGUAGE_SHOTS,
    SUITES,
    as_asked,
    asked_of,
    evaluate,
    shots_for,
    suite_items,
)
from components.shared.tasks.generators.safety import REFUSAL
from components.shared.tasks.graders import CHOICE
from components.shared.tasks.item import EXACT
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.shapes import make


def other_tokenizer():
    """Not the byte one: it has a word more."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["the"])
    return tokenizer


def asked(suite, tokenizer, shots, items=26):
    own = suite_items(suite, split="report", items=items, seed=0)
    return own, as_asked(own, suite, tokenizer, shots=shots, seed=0)


@pytest.mark.parametrize("suite", SUITES)
def test_a_network_over_bytes_is_asked_as_it_was_trained_and_others_are_shown_examples(suite):
    assert shots_for(suite, byte_tokenizer(), 3) == 0 and shots_for(suite, other_tokenizer(), 3) == 3
    assert shots_for(suite, other_tokenizer(), None) == LANGUAGE_SHOTS
    assert shots_for("file:a", byte_tokenizer(), 3) == 3 and shots_for("file:a", other_tokenizer(), None) == 0
    assert shots_for("arc", other_tokenizer(), 3) == 0
    own, bare = asked(suite, byte_tokenizer(), 0)
    assert bare == own
    own, shown = asked(suite, other_tokenizer(), 4)
    for item, question in zip(own, shown, strict=True):
        *examples, last = question.prompt.split("\n\nQuestion: ")
        assert len(examples) == 4 and last == f"{item.prompt.strip()}\nAnswer:"
        assert item.prompt.strip() not in "\n".join(examples)
        assert question.answer == f" {item.answer.lstrip()}" and len(question.choices) == len(item.choices)
        assert question.grader == (CHOICE if item.choices else EXACT)
    assert asked_of(suite, own, shots=4, seed=0) != asked_of(suite, own, shots=0, seed=0)


def test_examples_of_safety_show_both_kinds_of_request_whichever_is_asked():
    own, shown = asked("safety", other_tokenizer(), 8, items=16)
    for item, question in zip(own, shown, strict=True):
        examples = question.prompt.split("\n\n")[:-1]
        refused = sum(example.endswith(f"Answer: {REFUSAL}") for example in examples)
        assert 0 < refused < 8, item


def test_a_model_of_another_tokenizer_is_scored_on_all_five(tmp_path):
    from components.shared.models.loading import load

    model, tokenizer = load(make("llama", tmp_path / "llama"))
    scores = evaluate(model, tokenizer, split="report", items=13, seed=0, shots=1)
    assert set(scores) == set(SUITES)
    assert all(score.n >= 12 and 0 <= score.score <= 1 for score in scores.values())
    items = [
        replace(item, answer=item.answer) for item in suite_items("memory", split="report", items=13, seed=0)
    ]
    assert scores["memory"].asked == asked_of("memory", items, shots=1, seed=0)
    assert scores["memory"].score > 0, "one of two to four choices is right now and then"
