"""Two attempts at an ARC puzzle: as it is, and reflected; either may be right."""

from __future__ import annotations

import json

import pytest

from components.shared.evaluation.arc import reflected
from components.shared.evaluation.suites import evaluate, suite_items
from components.shared.runtime.config.settings import EvaluationSettings
from components.shared.tasks.generators.arc import COLOURS, Puzzle, disguised, draft
from components.shared.tasks.tokenizer import byte_tokenizer

PAIR = (((1, 2, 3), (4, 5, 6)), ((3, 2, 1),))
PUZZLE = Puzzle("one", 1, "report", (PAIR, PAIR), (PAIR,))


def test_a_reflected_item_is_the_item_of_the_reflected_puzzle():
    plain, turned = (
        draft(puzzle, 0).item("arc", 1, "report")
        for puzzle in (PUZZLE, disguised(PUZZLE, 0, True, tuple(range(COLOURS))))
    )
    assert reflected(plain) == turned != plain and reflected(turned) == plain
    assert turned.prompt.endswith("14/25/36>") and turned.answer == "3/2/1"


@pytest.fixture
def suite(tmp_path):
    """A folder of eight puzzles to report, and four to train on, as a suite."""
    for name, count in (("training", 4), ("evaluation", 8)):
        (tmp_path / name).mkdir()
        for number in range(count):
            pair = {"input": [[number, 1, 2]], "output": [[2, 1, number]]}
            puzzle = {"train": [pair], "test": [pair], "difficulty": 1 + number % 2}
            (tmp_path / name / f"{name}-{number}.json").write_text(json.dumps(puzzle))
    return f"arc:{tmp_path}"


def test_an_item_of_the_suite_is_right_when_one_of_two_attempts_is(suite):
    items = suite_items(suite, split="report", items=20, seed=0)
    assert len(items) == 8 and {item.level for item in items} == {1, 2}, "all that there are"
    first, second = items[:2], [reflected(item) for item in items[1:5]]
    known = {item.prompt: item.answer for item in [*first, *second]}
    asked = {"split": "report", "items": 20, "seed": 0, "suites": [suite]}
    score = evaluate(
        lambda items: [known.get(item.prompt, "0") for item in items], byte_tokenizer(), **asked
    )[suite]
    assert (score.score, score.n, score.chance) == (5 / 8, 8, 0.0) and score.low < 5 / 8 < score.high
    assert score.detail["pass_at_1_low"] < score.detail["pass_at_1"] < score.detail["pass_at_1_high"]
    assert score.detail["pass_at_1"] == 2 / 8 and score.detail["pass_at_2"] == 5 / 8
    assert score.outcomes == "11111000" and set(score.detail) >= {f"{suite} 1", f"{suite} 2"}


def test_a_run_can_ask_the_suite():
    chosen = EvaluationSettings(items=2, batch=1, suites=["arc", "arc:/data/puzzles", "memory"]).suites
    assert chosen[:2] == ["arc", "arc:/data/puzzles"]
    with pytest.raises(ValueError, match=r"no suite 'ark', did you mean arc"):
        EvaluationSettings(items=2, batch=1, suites=["ark"])
