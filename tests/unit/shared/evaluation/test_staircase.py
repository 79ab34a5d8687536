"""The staircase finds a simulated model's level, its interval holds it, and it asks where it learns most."""

from __future__ import annotations

import numpy as np
import pytest

from components.shared.evaluation.staircase import LAPSE, Staircase, assess
from components.shared.runtime.errors import InputError
from components.shared.tasks import registry
from components.shared.tasks.item import Draft, Task


def simulated(ability: float, slope: float, chance: float, rng: np.random.Generator, rounds: int = 8):
    stair = Staircase(np.full(10, chance), range(1, 11))
    for _ in range(rounds):
        level = stair.best_level()
        rate = chance + (1 - chance - LAPSE) / (1 + np.exp(-slope * (ability - level)))
        stair.observe(level, list(rng.random(4) < rate))
    return stair.placement()


def test_intervals_hold_the_true_level_of_simulated_models_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held, errors = [], []
    for _ in range(120):
        ability = rng.uniform(1, 10)
        found = simulated(ability, rng.choice([0.5, 1.0, 2.0, 4.0]), 0.1, rng)
        held.append(found.low <= ability <= found.high)
        errors.append(found.place - ability)
    assert 0.87 <= np.mean(held) <= 1 and abs(np.mean(errors)) < 0.25
    assert np.sqrt(np.mean(np.square(errors))) < 1


def test_more_questions_narrow_the_interval():
    few, many = (simulated(5, 2, 0.1, np.random.default_rng(1), rounds) for rounds in (2, 16))
    assert many.high - many.low < few.high - few.low and many.items == 64


def test_a_model_that_knows_all_or_nothing_is_placed_outside_the_levels():
    for right, outside in ((True, lambda p: p.place > 9.5), (False, lambda p: p.place < 1)):
        stair = Staircase(np.full(10, 0.1), range(1, 11))
        for _ in range(6):
            stair.observe(stair.best_level(), [right] * 4)
        assert outside(stair.placement())


def test_expected_success_falls_from_level_to_level_and_only_levels_that_may_be_asked_are():
    stair = Staircase(np.full(10, 0.25), [2, 3])
    assert stair.best_level() in (2, 3)
    success = stair.placement().success
    assert list(success) == [2, 3] and success[2] > success[3] > 0.25


def test_tasks_are_asked_in_batches_of_the_search_split_and_placed_apart():
    batches = []

    def answers(items):
        batches.append(len(items))
        assert {item.split for item in items} == {"search"} and not any(item.scratch for item in items)
        return [item.task == "copy" for item in items]

    found = assess(answers, {"copy": [1, 2, 3], "chain": [1, 2]}, rounds=3, items=4, seed=0)
    assert batches == [8, 8, 8]
    assert found["copy"].place > 3 > 1 > found["chain"].place
    assert found["copy"].right == found["copy"].items == 12 and set(found["chain"].success) == {1, 2}


def test_a_task_that_has_nothing_for_the_split_is_refused_by_name(monkeypatch):
    lonely = next(text for text in map(str, range(100)) if registry.split_of(text) == "train")
    tiny = Task("tiny", "reasoning", lambda rng, level: Draft(lonely, "1"), lambda level: 0.0)
    monkeypatch.setitem(registry.TASKS, "tiny", tiny)
    with pytest.raises(InputError, match="tiny"):
        assess(lambda items: [True] * len(items), {"tiny": [1]}, rounds=1, items=1, seed=0)
