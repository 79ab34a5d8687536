"""Tools execute the calls that the behaviours teach, and nothing else."""

import random

import pytest

from components.shared.agent.tools import Toolbox
from components.shared.tasks.generators import arithmetic, behaviours, recall

ALL = ("calculator", "memory", "store", "context")


@pytest.mark.parametrize("level", range(1, 11))
def test_the_calculator_agrees_with_the_task_of_chains_at_every_level(level):
    rng = random.Random(level)
    for _ in range(50):
        draft = arithmetic.chain(rng, level)
        assert Toolbox(["calculator"]).execute(behaviours.call_of_sum(draft)) == draft.answer


def test_executed_calls_answer_what_the_plain_questions_of_all_families_ask():
    rng = random.Random(0)
    for name in ("tool", "memory", "retrieval"):
        family = behaviours.FAMILIES[name]
        for _ in range(100):
            forms = family.forms(family.relevant(rng, 2))
            plain, baked = forms["plain"], forms["baked"]
            assert Toolbox(ALL).execute(baked.answer, plain.prompt) == plain.answer


def test_context_finds_what_the_prompt_says_and_the_last_word_counts():
    rng = random.Random(1)
    for task in (recall.recall, recall.latest):
        for _ in range(50):
            draft = task(rng, 3)
            assert Toolbox(["context"]).execute(f"<find {draft.prompt[-1]}>", draft.prompt) == draft.answer
    assert Toolbox(["context"]).execute("<find k>", "xq k=7 zz k?") == "7"


def test_the_store_is_searched_newest_first_and_context_before_it():
    tools = Toolbox(ALL, ["k 3", "k=4", "a 9"])
    assert tools.execute("<find k>") == "4" and tools.execute("<find a>") == "9"
    assert tools.execute("<find k>", "k7? k") == "7" and tools.execute("<find z>") == "?"
    assert Toolbox(["context"], ["k 3"]).execute("<find k>") == "?"


def test_memory_lasts_for_the_session_and_the_last_value_counts():
    tools = Toolbox(["memory"])
    assert tools.execute("<load k>") == "?"
    assert tools.execute("<save k 42>") == "ok" and tools.execute("<save k 7>") == "ok"
    assert tools.execute("<load k>") == "7"
    assert Toolbox(["memory"]).execute("<load k>") == "?"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "7",
        "<add 1>",
        "<add 1 x>",
        "<div 4 2>",
        "<add 1 <find k>>",
        "<save k>",
        "<save <add 1 2> 3>",
        "<load>",
        "<find>",
        "<add 47 3",
        "add 47 3>",
        "<add 4 3> 7",
        "<__import__ os>",
    ],
)
def test_what_is_no_call_of_a_tool_stays_as_it_was_said(said):
    assert Toolbox(ALL).execute(said, "a3? a") == said


@pytest.mark.parametrize("call", ["<add 4 3>", "<save k 4>", "<load k>", "<find k>"])
def test_no_tool_runs_that_is_not_allowed(call):
    assert Toolbox([]).execute(call, "k3? k") == call
