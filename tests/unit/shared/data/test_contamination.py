"""A document that holds an evaluation item is found, wherever in it the item stands; others are not."""

import json

import pytest

from components.shared.data.blocks import Block
from components.shared.data.contamination import Contamination
from components.shared.data.evaluation_items import evaluation_items
from components.shared.data.words import words_of
from components.shared.evaluation.cells import suites_of
from components.shared.evaluation.suites import draw, suite_items
from components.shared.runtime.config.compose import compose
from components.shared.runtime.config.settings import EvaluationSettings, model_of
from components.shared.tasks.item import Item
from components.shared.tasks.registry import split_of

LONG = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
NINE = "What is the capital city of the kingdom Norway"


def found(documents, *items):
    contamination = Contamination([Item("task", 1, "report", *item) for item in items])
    return contamination.found_in(words_of(Block.of([text.encode() for text in documents]))).tolist()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (f"Once upon a time {LONG} And so on.", True),
        (LONG.upper().replace(" ", "\n").replace(",", " ;"), True),
        ("x natalia sold clips to 48 of her friends in april and then she y", True),  # 13 words of it
        ("x natalia sold clips to 48 of her friends in april and then y", False),  # 12
        (LONG.replace("friends", "neighbours").replace("half", "twice"), False),
        ("natalia sold clips", False),
        ("", False),
    ],
)
def test_thirteen_words_in_a_row_are_enough(document, expected):
    assert found([document], (LONG, "72")) == [expected]


def test_an_item_of_eight_to_twelve_words_is_one_n_gram():
    documents = [f"so: {NINE}? Oslo", "what is the capital city of the kingdom", f"{NINE[:-1]}s"]
    assert found(documents, (NINE, " Oslo")) == [True, False, False]


def test_a_short_item_is_a_line_of_its_own_with_its_answer():
    documents = ["7+5=12", "a\n  7+5=12 \r\nb", "7+5=", "know that 7+5=12 is so", "7 + 5 = 12", "12"]
    assert found(documents, ("7+5=", "12")) == [True, True, False, False, False, False]


def test_the_text_of_an_item_without_a_question_is_looked_for_too():
    assert found([f"x {LONG} y"], ("", LONG)) == [True]


def test_documents_are_told_apart():
    assert found(["a b c d e f g", "h i j k l m n"], ("a b c d e f g h i j k l m n", "o")) == [False, False]
    assert found(["a", f"{LONG}", "b"], (LONG, "72")) == [False, True, False]


def test_the_items_are_those_of_every_suite_and_of_the_users_own_files(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f'{{"prompt": "question {n}?", "answer": "{n}"}}\n' for n in range(200)))
    items = evaluation_items(EvaluationSettings(items=10, batch=8), 3, [f"file:{path}", "chain"])
    own = {item.prompt for item in items if item.task == f"file:{path}"}
    assert own == {f"question {n}?" for n in range(200) if split_of(f"question {n}?") != "train"}
    for split in ("search", "select", "report"):
        for suite in suites_of(split):
            asked = suite_items(suite, split=split, items=10, seed=3)
            assert {item.prompt for item in asked} <= {item.prompt for item in items}
    assert all(item.split != "train" for item in items)


def test_whatever_else_a_run_asks_is_among_the_items(tmp_path):
    """ARC, files of questions that other phases ask, targets, the held-out text and the questions of `chat`."""
    (tmp_path / "held.txt").write_text(" ".join(f"word{place}" for place in range(40)))
    for name in ("suite", "fitness"):
        row = {"prompt": f"a {name}?", "answer": "b", "split": "report"}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    overrides = [
        f"evaluation.suites=[safety, arc, 'file:{tmp_path / 'suite.jsonl'}']",
        f"evomerge.suites=[memory, 'file:{tmp_path / 'fitness.jsonl'}']",
        "training.target=[count]", f"evaluation.text={tmp_path / 'held.txt'}", "evaluation.text_tokens=30",
        "evaluation.chat=true", "evaluation.items=8",
    ]  # fmt: skip
    evaluation = compose("cognate", model_of("cognate"), overrides=overrides).evaluation
    asked = evaluation_items(
        evaluation, 3, ["corpus:/nowhere", "chain"], [Item("own", 1, "report", LONG, "7")]
    )
    prompts = {item.prompt for item in asked}
    assert {"a suite?", "a fitness?", LONG, "What is the capital of France?"} <= prompts
    assert {item.prompt for item in suite_items("arc", split="report", items=400, seed=0)} <= prompts
    assert {item.prompt for item in draw("count", "report", 2, 8, 3)} <= prompts
    contamination = Contamination(asked)

    def held(text):
        return contamination.found_in(words_of(Block.of([text.encode()]))).tolist() == [True]

    assert held("so " + " ".join(f"Word{place}" for place in range(12, 26)))
    assert not held(" ".join(f"word{place}" for place in range(29, 40))), "it is not scored so far"
    assert held("x\nWhat is the capital of France?\nIt is Paris.") and held(
        "What is the capital of France? Paris"
    )


def test_what_phases_ask_is_kept_apart_in_all_of_them_and_the_five_suites_need_no_word():
    given = ["evomerge.suites=[memory, arc]", "training.target=[arc, count]", "evaluation.apart=[letter]"]
    for phase in ("cognate", "training"):
        assert compose(phase, model_of(phase)).evaluation.apart == []
        assert compose(phase, model_of(phase), overrides=given).evaluation.apart == ["letter", "arc", "count"]


def test_other_items_make_another_digest():
    item = Item("task", 1, "report", LONG, "72")
    assert Contamination([item]).digest == Contamination([item, item]).digest
    assert Contamination([item]).digest != Contamination([]).digest
    assert not Contamination([])
