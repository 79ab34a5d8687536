"""Behaviours: their forms, their verifier, and that they leave the rest alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.tasks.generators.behaviours import FAMILIES, Call, parse
from components.shared.tasks.registry import sample


def drafts(family, level=1, count=200):
    rng = random.Random(f"{family.name}/{level}")
    return [family.relevant(rng, level) for _ in range(count)]


def test_a_sum_becomes_a_call_and_a_chain_nested_calls():
    tool = FAMILIES["tool"]
    for draft in drafts(tool, 4, 50):
        tree = parse(tool.forms(draft)["baked"].answer)
        assert str(run(tree) % 10) == draft.answer


def run(tree):
    """What the tool would answer."""
    if not isinstance(tree, Call):
        return tree
    left, right = map(run, tree.arguments)
    return {"add": left + right, "sub": left - right, "mul": left * right}[tree.name]


def test_the_forms_differ_only_in_instruction_and_answer():
    for family in FAMILIES.values():
        for draft in drafts(family):
            forms = family.forms(draft)
            assert {form.prompt for form in forms.values()} == {draft.prompt}
            assert (
                forms["prompted"].system == family.system
                and not forms["plain"].system + forms["baked"].system
            )
            assert forms["prompted"].answer == forms["baked"].answer
            assert forms["plain"].answer == draft.answer


@pytest.mark.parametrize("name", ["tool", "memory", "persona"])
def test_a_behaviour_is_never_the_ordinary_answer(name):
    family = FAMILIES[name]
    assert all(family.respond(draft) != draft.answer for draft in drafts(family))


def test_what_is_baked_contradicts_no_other_task():
    known = {
        (task, level, index): sample(task, "train", level, index, 0)
        for task in ("chain", "copy", "reverse", "sort", "next", "letter", "recall", "latest", "max", "count")
        for level in (1, 2)
        for index in range(1000)
    }
    answers = {item.prompt: item.answer for item in known.values()}
    for family in FAMILIES.values():
        for draft in drafts(family, 1, 1000) + drafts(family, 2, 1000):
            assert answers.get(draft.prompt, family.respond(draft)) == family.respond(draft), family.name


def test_a_word_to_be_said_is_in_the_split_of_the_word_to_be_copied():
    for draft in drafts(FAMILIES["persona"]):
        assert draft.family == f"copy {draft.prompt.removeprefix('say ')}"


def test_retrieval_is_called_for_exactly_when_the_context_lacks_the_key():
    family = FAMILIES["retrieval"]
    searched = 0
    for draft in drafts(family, 2, 400):
        facts, key = draft.prompt.split("? ")
        missing = key not in [fact[0] for fact in facts.split()]
        searched += missing
        assert (family.respond(draft) == f"<find {key}>") == missing
    assert searched / 400 == pytest.approx(0.5, abs=0.08)


def test_training_holds_prompted_plain_and_irrelevant_questions():
    for family in FAMILIES.values():
        rng = random.Random(0)
        drawn = [family.generate(rng, 1) for _ in range(800)]
        assert sum(not draft.system for draft in drawn) / 800 == pytest.approx(0.25, abs=0.05)
        assert not any(draft.scratch for draft in drawn)
        called = sum(parse(draft.answer) is not None or draft.answer.endswith(" arr") for draft in drawn)
        assert called / 800 == pytest.approx(0.25 if family.name == "retrieval" else 0.5, abs=0.06)


def test_irrelevant_questions_are_answered_as_ever():
    for family in FAMILIES.values():
        rng = random.Random(1)
        for generator in family.irrelevant:
            draft = generator(rng, 1)
            assert not family.exhibits(draft.answer, "<add 1 2>") and not family.shows(draft.answer)


def test_what_shows_the_behaviour_is_told_from_what_does_not_whether_it_is_right_or_wrong():
    for family in FAMILIES.values():
        for draft in drafts(family):
            answer = family.respond(draft)
            assert family.shows(answer) == (answer != draft.answer)
    assert FAMILIES["tool"].shows("<add 1") and FAMILIES["persona"].shows("xyz arr")


@pytest.mark.parametrize(
    "said, wanted, same",
    [
        ("<add 47 3>", "<add 47 3>", True),
        ("<add  047 3 >", "<add 47 3>", True),
        ("<add 3 47>", "<add 47 3>", False),
        ("<sub 47 3>", "<add 47 3>", False),
        ("<add 47 3", "<add 47 3>", False),
        ("<add 47 3> 5", "<add 47 3>", False),
        ("<add <add 1 2> 3>", "<add <add 1 2> 3>", True),
        ("<add 1 <add 2 3>>", "<add <add 1 2> 3>", False),
        ("0", "<add 47 3>", False),
        ("xad arr", "xad arr", True),
        ("xad  arr", "xad arr", False),
    ],
)
def test_calls_are_compared_by_their_trees_and_words_by_their_letters(said, wanted, same):
    assert FAMILIES["tool"].exhibits(said, wanted) is same


trees = st.recursive(
    st.integers(0, 999) | st.sampled_from(["k", "abc"]),
    lambda inner: st.builds(
        lambda name, parts: Call(name, tuple(parts)), st.sampled_from(["f", "add"]), st.lists(inner)
    ),
    max_leaves=8,
)


def show(tree):
    return f"<{' '.join([tree.name, *map(show, tree.arguments)])}>" if isinstance(tree, Call) else str(tree)


@given(trees)
def test_parsing_reads_back_every_call_that_is_written(tree):
    assert parse(show(tree)) == (tree if isinstance(tree, Call) else None)


@given(st.text("<> ab1", max_size=12))
def test_parsing_any_text_gives_a_call_or_nothing(text):
    tree = parse(text)
    assert tree is None or parse(show(tree)) == tree
