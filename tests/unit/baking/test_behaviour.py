"""Behaviour scores: rates, decisions and false triggers by hand; the questions of a behaviour."""

from __future__ import annotations

import numpy as np
import pytest

from components.baking import behaviour
from components.baking.behaviour import BehaviourScores, behaviour_scores
from components.baking.findings import gates
from components.baking.questions import instructed, irrelevant, relevant
from components.shared.tasks.generators.behaviours import FAMILIES
from components.shared.tasks.item import Item


def test_rate_decision_and_false_triggers_by_hand():
    """Four questions about the behaviour, of which one (as in retrieval) does not call for it, and two others."""
    scores = BehaviourScores(
        about=np.array([1, 1, 1, 1, 0, 0], bool),
        right=np.array([1, 0, 0, 1, 0, 0], bool),
        due=np.array([1, 1, 1, 0, 0, 0], bool),
        shown=np.array([1, 1, 0, 0, 1, 0], bool),
    )
    assert scores.rate == 0.5
    assert scores.decision == pytest.approx(4 / 6)
    assert scores.false_trigger_rate == pytest.approx(1 / 3)


def test_calls_are_right_by_their_trees_and_shown_even_where_they_are_wrong(monkeypatch):
    about = [Item("tool", 1, "search", f"calc {n}", answer) for n, answer in enumerate(["<add 47 3>"] * 4)]
    others = [Item("tool", 1, "search", "47+3=", "0"), Item("tool", 1, "search", "1+1=", "2")]
    answers = ["<add  047 3 >", "<add 3 47>", "<add 47 3", "0", "<add 47 3>", "2"]
    monkeypatch.setattr(behaviour, "greedy_answers", lambda model, tokenizer, items, limit: answers)
    scores = behaviour_scores(None, None, "tool", about, others, 16)
    assert scores.right[scores.about].tolist() == [True, False, False, False]
    assert scores.shown.tolist() == [True, True, True, False, True, False]
    assert scores.false_trigger_rate == 0.5 and scores.decision == pytest.approx(4 / 6)


def test_looking_up_what_is_there_is_a_false_retrieval(monkeypatch):
    about = [
        Item("retrieval", 1, "search", "a3? k", "<find k>"),
        Item("retrieval", 1, "search", "a3? a", "3"),
    ]
    monkeypatch.setattr(behaviour, "greedy_answers", lambda *arguments: ["<find k>", "<find a>"])
    scores = behaviour_scores(None, None, "retrieval", about, [], 16)
    assert (scores.rate, scores.decision, scores.false_trigger_rate) == (0.5, 0.5, 1.0)


def test_questions_are_of_their_split_and_the_same_every_time():
    for name in FAMILIES:
        train, search = (relevant(name, split, [1], 60, 0) for split in ("train", "search"))
        assert relevant(name, "search", [1], 60, 0) == search
        assert not {f["plain"].prompt for f in train} & {f["plain"].prompt for f in search}
        for forms in search:
            assert forms["prompted"].system and not forms["plain"].system + forms["baked"].system
            assert forms["prompted"].answer == forms["baked"].answer
        assert all(not item.system for item in irrelevant(name, "search", [1], 20, 0))


def test_irrelevant_questions_under_an_instruction_keep_their_answers():
    items = irrelevant("tool", "train", [1], 10, 0)
    under = instructed(items, "tool")
    assert [(i.prompt, i.answer) for i in under] == [(i.prompt, i.answer) for i in items]
    assert {i.system for i in under} == {FAMILIES["tool"].system}


def result(**more):
    return {
        "behaviour": "tool", "after": 0.8, "min_rate": 0.5, "false_trigger_rate": 0.02, "max_false_trigger_rate": 0.1,
        "forgotten": 0.05, "max_forgotten": 0.1,
    } | more  # fmt: skip


@pytest.mark.parametrize("worse", [{"after": 0.4}, {"false_trigger_rate": 0.3}, {"forgotten": 0.2}])
def test_each_of_the_three_conditions_can_fail_a_bake_alone(worse):
    assert all(gate["passed"] for gate in gates(result()))
    assert [gate["passed"] for gate in gates(result(**worse))].count(False) == 1
