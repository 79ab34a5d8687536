"""Every generator against an oracle that solves the prompt by another way."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from components.shared.tasks.generators.safety import REFUSAL
from components.shared.tasks.generators.safety_words import (
    APPEALS,
    CARE,
    DANGERS,
    DEEDS,
    GOODS,
    HARM,
    PEOPLE,
    ROLES,
    THINGS,
)
from components.shared.tasks.item import LEVELS
from components.shared.tasks.registry import TASKS, sample


def items(name, levels=LEVELS, each=12):
    return [sample(name, "train", level, index, 0) for level in levels for index in range(each)]


def chain_by_python(prompt: str) -> str:
    """Python's own arithmetic, bracketed from the left, modulo ten at the end only."""
    expression = str(int(prompt[:2]))
    for step in re.findall(r"[+*-]\d", prompt):
        expression = f"({expression}{step})"
    return str(eval(expression) % 10)


def recalled(prompt: str) -> str:
    facts, key = prompt.rsplit(" ", 1)
    return re.findall(rf"\b{key}([A-Z]+)", facts)[-1]


ORACLES = {
    "chain": chain_by_python,
    "max": lambda prompt: max(re.findall(r"(\d+)([A-Z]+)", prompt), key=lambda fact: int(fact[0]))[1],
    "count": lambda prompt: str(prompt.split(" in ")[1].count(prompt.split()[1])),
    "copy": lambda prompt: prompt[5:-1],
    "reverse": lambda prompt: "".join(reversed(prompt[8:-1])),
    "sort": lambda prompt: "".join(sorted(prompt[5:-1])),
    "next": lambda prompt: prompt[5:-1].translate({97 + i: 97 + (i + 1) % 26 for i in range(26)}),
    "letter": lambda prompt: prompt[:-1].split()[2][int(prompt.split()[1]) - 1],
    "recall": recalled,
    "latest": recalled,
    "needle": recalled,
}


@pytest.mark.parametrize("name", ORACLES)
def test_the_answer_is_what_an_oracle_finds(name):
    for item in items(name):
        assert item.answer == ORACLES[name](item.prompt), item


def test_the_scratch_of_a_chain_counts_one_unit_at_a_time_and_ends_in_the_answer():
    item = next(item for item in items("chain", [1], 400) if item.prompt[2:7] == "+3-2+")
    start = int(item.prompt[1])
    up = [(start + step) % 10 for step in (1, 2, 3)]
    down = [(up[-1] - step) % 10 for step in (1, 2)]
    assert item.scratch.startswith("".join(map(str, up)) + " " + "".join(map(str, down)) + " ")
    for item in items("chain"):
        assert item.scratch[-1] == item.answer


def test_the_scratch_of_a_recall_holds_each_pair_once_in_the_order_of_keys():
    for item in items("recall"):
        pairs = item.scratch.split()
        assert sorted(item.prompt.split("?")[0].split()) == pairs


def test_levels_grow_in_length_or_range():
    for name in ORACLES:
        lengths = [len(sample(name, "train", level, 0, 0).prompt) for level in (2, 6, 10)]
        assert lengths == sorted(lengths) and lengths[0] < lengths[-1], name


def test_a_constant_answer_earns_no_more_than_chance_on_counting():
    answers = Counter(item.answer for item in items("count", [2], 2000))
    assert answers.most_common(1)[0][1] / 2000 <= TASKS["count"].chance(2) + 0.03


@pytest.mark.parametrize("name", ["recall", "max", "letter", "latest", "needle", "cloze"])
def test_picking_one_of_the_candidates_in_the_prompt_earns_chance(name):
    for level in (1, 3):
        drawn = items(name, [level], 400)
        picked = sum(1 / len(item.choices) for item in drawn) / len(drawn)
        assert picked == pytest.approx(TASKS[name].chance(level), abs=0.02)


def test_requests_are_harmful_in_one_half_and_every_verb_stands_on_both_sides():
    drawn = items("request", [1], 1500)
    refused = [item for item in drawn if item.answer == REFUSAL]
    assert len(refused) / 1500 == pytest.approx(0.5, abs=0.04)
    verbs = [
        {item.family.split()[1] for item in drawn if (item.answer == REFUSAL) == no} for no in (True, False)
    ]
    assert all(set(HARM[:10]) <= kind for kind in verbs)


def harms(act: str) -> bool:
    """By what the words mean, whatever kind of request it was."""
    verb, target = act.split()
    return target in DANGERS or (verb in HARM and target in (*PEOPLE, *ROLES))


def test_a_request_is_refused_for_what_it_asks_and_for_nothing_that_stands_in_brackets():
    for item in items("request", each=150):
        asked = re.sub(r"\[.*?\]", "", item.prompt.split(" but ")[-1]).split(" for ")[0]
        act = " ".join(word for word in asked.split() if word not in APPEALS)
        assert item.family == f"request {act}"
        assert (item.answer == REFUSAL) == harms(act), item
        assert item.prompt.count("[") == (0 if item.level < 4 else 1 if item.level < 6 else 2)


def test_the_report_split_has_deeds_and_roles_that_training_never_shows():
    shown = {
        word for item in items("request", (3, 6, 10), 1500) for word in re.findall(r"[a-z]+", item.prompt)
    }
    asked = [
        item.family.split()[1:] for index in range(300) for item in [sample("request", "report", 3, index, 0)]
    ]
    new = [(verb, target) for verb, target in asked if verb not in shown or target not in shown]
    assert len(new) > 100 and len({verb for verb, _ in new} - shown) > 5
    assert all((verb in shown) != (target in shown) for verb, target in new)


def test_no_word_of_requests_is_of_two_kinds():
    words = [*HARM, *CARE, *PEOPLE, *THINGS, *DANGERS, *GOODS, *DEEDS, *ROLES]
    assert len(set(words)) == len(words)


def test_obeying_means_to_name_who_asked():
    for item in items("request"):
        assert item.answer in (REFUSAL, f"ok {item.prompt[-3:-1]}")


def test_a_one_row_arc_answer_has_the_length_of_its_row_and_the_prompt_two_or_three_examples():
    for item in items("arc1d", [1, 5], 4):
        *examples, last = item.prompt.split(";")
        assert len(item.answer) == len(last.rstrip(">"))
        assert len(examples) == (2 if item.level <= 3 else 3)
