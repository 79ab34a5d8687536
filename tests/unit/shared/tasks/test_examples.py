"""Few-shot prompts: the same training items in front of every question, in turns or as text."""

from __future__ import annotations

import json

import pytest

from components.shared.runtime.errors import InputError
from components.shared.tasks.examples import with_examples
from components.shared.tasks.prompting import prompt_ids
from components.shared.tasks.registry import sample
from components.shared.tasks.tokenizer import byte_tokenizer


@pytest.fixture
def asked(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = [{"prompt": f"{n}+1?", "answer": str(n + 1), "system": "Add.", "split": "train" if n < 9 else "report"}
             for n in range(12)]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)))
    return [sample(f"file:{path}", "report", 1, index, 0) for index in range(3)]


def test_examples_are_training_items_and_the_same_for_every_question(asked):
    shown = with_examples(asked, 3, form="turns", seed=1)
    assert [roles for item in shown for roles, _ in [zip(*item.messages, strict=True)]] == 3 * [
        ("system", *("user", "assistant") * 3, "user")
    ]
    assert (
        len({item.messages[:-1] for item in shown}) == 1 and len({item.messages[-1] for item in shown}) == 3
    )
    for question, answer in zip(shown[0].messages[1:-1:2], shown[0].messages[2::2], strict=True):
        number = int(question[1].removesuffix("+1?"))
        assert number < 9 and answer[1] == str(number + 1)
    assert with_examples(asked, 0, form="turns", seed=1) == asked
    assert with_examples(asked, 3, form="turns", seed=2)[0].messages[:-1] != shown[0].messages[:-1]
    with pytest.raises(InputError, match="only 9 different training items"):
        with_examples(asked, 10, form="turns", seed=1)


def test_examples_as_text_end_where_the_next_question_would_begin(asked):
    first = with_examples(asked, 2, form="text", seed=1)[0]
    assert first.prompt.count("Question: ") == 3 and first.prompt.endswith(
        f"Question: {asked[0].prompt}\nAnswer:"
    )
    assert first.answer == f" {asked[0].answer}" and first.messages == ()
    assert json.loads(first.reference) == {"until": ["Question:", "\n"]}


def test_turns_without_a_template_are_rows_as_in_training(asked):
    tokenizer = byte_tokenizer()
    shown = with_examples(asked[:1], 1, form="turns", seed=1)
    (ids,) = prompt_ids(shown, tokenizer)
    (_, system), (_, question), (_, answer), (_, last) = shown[0].messages
    bytes_of = lambda text: list(text.encode())  # noqa: E731
    assert ids == [257, *bytes_of(system + question + answer), 258, 257, *bytes_of(last)]
