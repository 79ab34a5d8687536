"""A model is graded as its items say: by one forward, by the likelihood of choices, or by what it writes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from components.shared.evaluation.answers import choice_scores, correct, evaluating, grades, nll
from components.shared.evaluation.writing import written_answers
from components.shared.models.loading import load
from components.shared.runtime.errors import InputError
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import prompt_ids
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.shapes import FAMILIES, make
from tests.unit.shared.models.variants import cognate

TOKENIZER = byte_tokenizer()


def item(prompt, answer, grader="exact", choices=(), limit=0, **needs):
    return Item("t", 1, "report", prompt, answer, choices=choices, grader=grader, limit=limit,
                reference=json.dumps(needs) if needs else "")  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return cognate("standard")


def said(model, items, limit=8):
    with evaluating(model):
        return written_answers(model, TOKENIZER, items, limit=limit)


def test_what_a_model_writes_is_graded_item_by_item_in_the_items_order(model):
    asked = [item("long question " * n, "x") for n in (3, 1, 2)]
    texts = said(model, asked)
    wanted = [
        dataclasses.replace(one, answer=text, reference='{"ignore": []}')
        for one, text in zip(asked, texts, strict=True)
    ]
    wanted[1] = dataclasses.replace(wanted[1], answer="something else")
    assert correct(model, TOKENIZER, wanted, limit=8).tolist() == [
        bool(texts[0].strip()) or texts[0] == "",
        False,
        True,
    ]


def test_limits_and_strings_that_end_a_text_are_each_items_own(model):
    asked = [item("a", "x"), item("a", "x", limit=3)]
    long, short = said(model, asked)
    assert long.startswith(short) and len(short.encode()) < len(long.encode())
    end = long[2]
    (cut,) = said(model, [item("a", "x", until=[end])])
    assert end in cut and long.startswith(cut) and (cut == long or end not in cut[:-8])


def test_a_question_that_leaves_no_room_for_an_answer_is_refused(model):
    with pytest.raises(InputError, match="the model takes"):
        said(model, [item("a" * 5000, "x")])


def test_choices_are_scored_by_their_summed_log_probability_without_an_end(model):
    asked = [
        item("The cat", " sat", "choice", (" sat", " on", " a very long mat")),
        item("x", "b", "choice", ("a", "b")),
    ]
    scores = choice_scores(model, TOKENIZER, asked, batch=2)
    expected = []
    for one in asked:
        (head,) = prompt_ids([one], TOKENIZER)
        for text in one.choices:
            ids = [*head, *text.encode()]
            with torch.no_grad():
                logs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            expected.append(sum(float(logs[place - 1, ids[place]]) for place in range(len(head), len(ids))))
    np.testing.assert_allclose(np.concatenate(scores.logs), expected, rtol=1e-5)
    acc = [int(np.argmax(expected[:3])) == 0, int(np.argmax(expected[3:])) == 1]
    norm = [int(np.argmax(np.array(expected[:3]) / [4, 3, 16])) == 0, acc[1]]
    assert (scores.acc.tolist(), scores.acc_norm.tolist()) == (acc, norm)
    by_length = [dataclasses.replace(one, reference='{"normalise": true}') for one in asked]
    assert grades(model, TOKENIZER, asked).tolist() == list(map(float, acc))
    assert grades(model, TOKENIZER, by_length).tolist() == list(map(float, norm))


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_likelihood(family, tmp_path):
    model, tokenizer = load(make(family, tmp_path / "model"))
    asked = [item("2 + 3", "5"), item("a b c " * 5, "a b"), item("1 " * 3, "7")]
    together, tokens = nll(model, tokenizer, asked)
    alone = [nll(model, tokenizer, [one]) for one in asked]
    np.testing.assert_allclose(together, [total.item() for total, _ in alone], rtol=1e-5)
    assert tokens.tolist() == [count.item() for _, count in alone]


def test_an_agents_text_is_graded_and_its_parts_count(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def half(item, text): return 0.5")
    asked = [item("a", "42", "number"), item("b", "x"), item("c", "x", f"{file}:half")]
    agent = lambda items: ["It is 42.", "y", "?"]  # noqa: E731
    assert grades(agent, TOKENIZER, asked).tolist() == [1, 0, 0.5]
    assert correct(agent, TOKENIZER, asked).tolist() == [True, False, False]
