"""Roles of several agents, and questions with retrieved facts, against Python's own arithmetic."""

from __future__ import annotations

import re

import pytest

from components.shared.tasks.generators import augmented
from components.shared.tasks.registry import sample, split_of


def value(chain: str) -> str:
    first, *steps = re.findall(r"^\d+|[+*-]\d", chain)
    total = int(first)
    for step in steps:
        total = eval(f"({total}){step}")
    return str(total % 10)


def drawn(name, level, count=60):
    return [sample(name, "train", level, index, 0) for index in range(count)]


@pytest.mark.parametrize("level", [1, 5, 9])
def test_the_asker_finds_the_one_operand_that_gives_the_wanted_answer(level):
    for item in drawn("scenario/asker", level):
        chain, wanted = item.prompt.removeprefix("ask ").split("=")
        fits = [digit for digit in "123456789" if value(chain.replace("_", digit)) == wanted]
        assert fits == [item.answer]


@pytest.mark.parametrize("level", [1, 5, 9])
def test_the_solver_gives_the_answer_that_was_not_turned_down(level):
    for item in drawn("scenario/solver", level):
        chain, tries = item.prompt.removeprefix("ask ").split("=", 1)
        assert item.answer == value(chain) and item.answer not in re.findall(r"try (\d) no", tries)


def test_the_checker_says_what_is_right_and_one_half_is():
    items = drawn("scenario/checker", 3, 400)
    for item in items:
        chain, tried = re.fullmatch(r"ask (.*)= try (\d) ", item.prompt).groups()
        assert item.answer == ("yes" if value(chain) == tried else f"no {value(chain)}")
    assert sum(item.answer == "yes" for item in items) / 400 == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("level", [1, 5, 6, 10])
def test_a_question_with_retrieved_entries_is_answered_from_them(level):
    for item in drawn("augmented", level):
        context, question = item.prompt.split("? ")
        known = {entry[:3]: entry[3] for entry in context.split()}
        chain = question.rstrip("=")
        for name, digit in known.items():
            chain = chain.replace(name, digit)
        assert value(chain) == item.answer and len(known) == augmented.shown(level)
        assert item.scratch.endswith(item.answer) or chain.endswith("0")


def test_what_is_shown_are_the_entries_whose_names_are_most_like_the_asked_one():
    store = {"dax": 1, "dix": 2, "xad": 3, "qqq": 4}
    assert augmented.retrieved(store, ["dax"], 3) == ["dax", "dix", "xad"]


def test_a_scenario_stands_in_the_split_of_its_chain():
    from components.shared.tasks.registry import find

    for name in ("scenario/asker", "scenario/solver", "scenario/checker"):
        import random

        draft = find(name).generate(random.Random(1), 2)
        assert split_of(draft.family) and "try" not in draft.family
