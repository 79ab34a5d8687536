"""Facts in long documents: their length, that they stand there, and that guessing one of them earns chance."""

from __future__ import annotations

import re

import pytest

from components.shared.runtime.errors import InputError
from components.shared.tasks.generators.long import SIZES
from components.shared.tasks.registry import find, sample

KINDS = ("long/needle", "long/recall", "long/latest")


def stated(prompt: str) -> list[str]:
    document, question = prompt.strip().rsplit("\n", 1)
    what = question.removeprefix("What is the code of the ").removesuffix("?")
    return re.findall(rf"code of the {what} is (?:now )?(\d+)\.", document)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_code_that_the_document_states_is_the_answer(kind):
    for level in (1, 4, 6):
        item = sample(kind, "search", level, 0, 0)
        assert item == sample(kind, "search", level, 0, 0)
        assert stated(item.prompt)[-1] == item.answer and item.answer in item.choices
        assert len(item.choices) == pytest.approx(1 / find(kind).chance(level))
        assert 0.9 * SIZES[level - 1] < len(item.prompt) < 1.3 * SIZES[level - 1] + 1000


def test_the_hardest_documents_have_ninety_thousand_characters_and_more():
    assert len(sample("long/needle", "train", 10, 0, 0).prompt) > 90_000


def test_facts_can_be_put_into_the_documents_of_a_file(tmp_path):
    file = tmp_path / "documents.txt"
    file.write_text("\n\n".join(f"line {n} of a document\nand its second line" for n in range(50)))
    item = sample(f"long/recall:{file}", "train", 2, 0, 0)
    assert stated(item.prompt) == [item.answer] and "and its second line" in item.prompt
    assert item.task == f"long/recall:{file}"
    with pytest.raises(InputError, match=r"nothing\.txt"):
        sample(f"long/needle:{tmp_path}/nothing.txt", "train", 1, 0, 0)
