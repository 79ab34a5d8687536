"""A user's file of questions: every key, every way to be wrong, and what a task makes of it."""

from __future__ import annotations

import gzip
import json
import os

import pytest

from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.file_check import check
from components.shared.tasks.graders import grade
from components.shared.tasks.registry import find, sample
from components.shared.tasks.tokenizer import byte_tokenizer


def written(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return f"file:{path}"


def only(task, split="train", level=1):
    return sample(task, split, level, 0, 0)


def test_every_key_of_a_line_arrives_in_the_item(tmp_path):
    (tmp_path / "mine.py").write_text("def first(item, text): return float(text[:1] == item.answer)")
    line = {
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "2+2?"}],
        "answer": "4", "grader": {"name": "mine.py:first", "weight": 2}, "level": 3, "family": "sums", "scratch": "1+1+1+1",
        "split": "select", "limit": 9, "id": 17, "meta": {"by": "me"},
    }  # fmt: skip
    task = written(tmp_path / "t.jsonl", line)
    found = only(task, "select", 3)
    assert (
        found.messages == (("system", "Be short."), ("user", "2+2?")) and found.prompt == "Be short.\n\n2+2?"
    )
    assert (found.limit, found.scratch, json.loads(found.reference)) == (9, "1+1+1+1", {"weight": 2})
    assert grade(found, "4!") == 1 and grade(found, "5") == 0
    with pytest.raises(InputError, match="levels 3"):
        only(task, "select", 2)
    with pytest.raises(InputError, match="nothing for the split 'train'"):
        only(task, "train", 3)


def test_choices_make_the_grader_choice_and_tests_make_it_code(tmp_path):
    task = written(
        tmp_path / "t.jsonl", {"prompt": "a", "answer": 1, "choices": ["x", "y"], "split": "train"}
    )
    assert (only(task).grader, only(task).answer) == ("choice", "y")
    assert find(task).chance(1) == 0.5


WRONG = {
    "it is not JSON": '{"prompt',
    "it is no object": "[1]",
    "there is no key 'anwser'": {"prompt": "a", "anwser": "b"},
    "it has no 'prompt'": {"answer": "b"},
    "'prompt' is 3, and no text": {"prompt": 3, "answer": "b"},
    "it has no 'answer'": {"prompt": "a"},
    "'level' is 11": {"prompt": "a", "answer": "b", "level": 11},
    "'level' is True": {"prompt": "a", "answer": "b", "level": True},
    "'split' is 'test'": {"prompt": "a", "answer": "b", "split": "test"},
    "'choices' are not two texts": {"prompt": "a", "answer": "b", "choices": ["b", "b"]},
    "none of its choices": {"prompt": "a", "answer": "c", "choices": ["a", "b"]},
    "it has 'messages' and 'prompt'": {"prompt": "a", "messages": [], "answer": "b"},
    "'messages' is no list": {"messages": [{"role": "tool", "content": "a"}], "answer": "b"},
    "is not the user's": {"messages": [{"role": "assistant", "content": "a"}], "answer": "b"},
    "there is no grader 'numbr'": {"prompt": "a", "answer": "1", "grader": "numbr"},
    "finds no number": {"prompt": "a", "answer": "one", "grader": "number"},
    "regular expression": {"prompt": "a", "answer": "1", "grader": {"name": "regex", "pattern": "["}},
    "cannot be imported": {"prompt": "a", "answer": "1", "grader": "nowhere.py:f"},
}


def test_each_wrong_line_is_named_by_number_with_what_is_wrong(tmp_path):
    good = {"prompt": "a", "answer": "b"}
    for message, line in WRONG.items():
        with pytest.raises(InputError) as error:
            only(written(tmp_path / f"{abs(hash(message))}.jsonl", good, "", line))
        assert error.value.where.endswith(".jsonl:3") and message in error.value.why, message
    with pytest.raises(InputError, match=r"18 lines of a data file.*line 1: .*line 2: .*, and 13 more"):
        only(written(tmp_path / "all.jsonl", *WRONG.values()))


def test_a_pass_through_a_file_meets_every_row_of_the_split_once(tmp_path):
    task = written(tmp_path / "t.jsonl", *({"prompt": f"{n}?", "answer": "a"} for n in range(60)))
    by_split = {
        s: {sample(task, s, 1, n, 0).prompt for n in range(60)}
        for s in ("train", "report", "search", "select")
    }
    assert sum(map(len, by_split.values())) == 60 == len(set().union(*by_split.values()))
    count = len(by_split["train"])
    passes = [[sample(task, "train", 1, p * count + n, 5).prompt for n in range(count)] for p in (0, 1)]
    assert set(passes[0]) == set(passes[1]) == by_split["train"] and passes[0] != passes[1]


def test_a_packed_file_and_a_changed_one_are_read(tmp_path):
    packed = tmp_path / "t.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"prompt": "a", "answer": "b", "split": "train"}\n'))
    assert only(f"file:{packed}").answer == "b"
    plain = tmp_path / "t.jsonl"
    task = written(plain, {"prompt": "a", "answer": "b", "split": "train"})
    assert only(task).answer == "b"
    written(plain, {"prompt": "a", "answer": "cc", "split": "train"})
    os.utime(plain, ns=(1, 1))
    assert only(task).answer == "cc"


def test_an_item_that_only_a_grader_can_judge_is_no_item_to_learn_from(tmp_path):
    line = {"prompt": "Say yes.", "grader": {"name": "regex", "pattern": "yes"}, "split": "train"}
    items = mixture({written(tmp_path / "t.jsonl", line): 1}, [1], "train", 0, 0, 2)
    with pytest.raises(InputError, match="has no answer to learn"):
        encode(items, byte_tokenizer())


def test_a_file_is_checked_line_by_line_and_counted(tmp_path):
    good = [{"prompt": f"{n}+1", "answer": str(n + 1), "grader": "number", "level": 2} for n in range(20)]
    lines = [
        *good,
        good[0],
        {"prompt": "a", "anwser": "b"},
        {"prompt": "s", "grader": {"name": "regex", "pattern": "y"}},
    ]
    written(tmp_path / "t.jsonl", *lines)
    report = check(tmp_path / "t.jsonl")
    assert [problem.line for problem in report.wrong] == [22] and report.twice == report.unanswered == 1
    assert sum(report.splits.values()) == 22 and report.levels == {"every": 1, "2": 21}
    assert report.graders == {"number": 21, "regex": 1} and report.as_dict()["wrong"][0]["line"] == 22
    assert next(iter(report.lines())).startswith(f"{tmp_path / 't.jsonl'}:22: there is no key 'anwser'")
    with pytest.raises(InputError, match="JSONL"):
        check(tmp_path / "t.txt")
