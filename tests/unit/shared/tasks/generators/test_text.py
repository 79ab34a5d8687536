"""Stories and files."""

from __future__ import annotations

import json
import re

import pytest

from components.shared.runtime.errors import InputError
from components.shared.tasks.registry import sample


def test_a_cloze_has_exactly_one_right_end_in_its_story():
    for level in range(1, 11):
        for index in range(30):
            item = sample("cloze", "train", level, index, 0)
            *told, asked = item.prompt.split(". ")
            ends = [sentence.removeprefix(asked) for sentence in told if sentence.startswith(asked)]
            assert ends == [item.answer], item.prompt


def test_a_story_never_contradicts_itself():
    for index in range(200):
        facts = {}
        for person, verb, end in re.findall(
            r"(\w+) (\w+) (\w+)\.", sample("prose", "train", 8, index, 0).answer
        ):
            assert facts.setdefault((person, verb), end) == end


def test_rows_of_a_jsonl_file_are_items_in_disjoint_splits(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"q{n}?", "answer": f"a{n}"}) for n in range(200)))
    seen = {
        split: {sample(f"file:{path}", split, 1, index, 0).prompt for index in range(100)}
        for split in ("train", "report")
    }
    assert seen["train"] and seen["report"] and not seen["train"] & seen["report"]
    assert sample(f"file:{path}", "train", 1, 0, 0).answer.startswith("a")


def test_windows_of_a_text_stay_in_the_split_of_their_document(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(f"{n:04} " * 60 for n in range(100)))
    train = {sample(f"file:{path}", "train", 2, index, 0).answer.split()[1] for index in range(200)}
    report = {sample(f"file:{path}", "report", 2, index, 0).answer.split()[1] for index in range(200)}
    assert not train & report
    assert len(sample(f"file:{path}", "train", 2, 0, 0).answer) == 64


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("missing.jsonl", None, "cannot be read"),
        ("empty.jsonl", "\n", "empty"),
        ("bad.jsonl", '{"text": "a"}\n{"text', "bad.jsonl:2"),
        ("lacking.jsonl", '{"prompt": "a"}', "it has no 'answer'"),
        ("list.jsonl", "[1]", "it is no object"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        sample(f"file:{path}", "train", 1, 0, 0)
