"""Mixtures by name: made of tasks that exist, spread over them by weight, refused by name."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from components.shared.runtime.config.compose import compose
from components.shared.runtime.config.settings import model_of
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.generators import gym
from components.shared.tasks.mixtures import MIXTURES, mixture_named
from components.shared.tasks.registry import TASKS
from components.shared.tasks.settings import Levels, Weights

weights, levels = TypeAdapter(Weights).validate_python, TypeAdapter(Levels).validate_python


def test_every_mixture_is_made_of_tasks_and_every_task_of_reasoning_gym_is_in_one_but_that_which_runs_programs():
    named = {task for tasks in MIXTURES.values() for task in tasks}
    assert set(MIXTURES) == {"sanity", "arc", "puzzles", "mathematics", "text", "long_context"}
    assert named <= set(TASKS)
    assert {f"gym/{name}" for name in gym.CHANCE} - named == {"gym/codeio"}


def test_a_name_stands_where_weights_stand_alone_or_beside_tasks():
    assert weights("sanity") == {"copy": 1.0}
    both = weights({"mixture:arc": 3, "chain": 1})
    assert both["chain"] == 1 and sum(both.values()) == pytest.approx(4)
    assert weights({"mixture:sanity": 1, "copy": 2}) == {"copy": 3.0}
    assert weights("puzzles") == pytest.approx(mixture_named("puzzles"))


def test_the_levels_of_a_mixture_are_those_of_all_its_tasks():
    spread = levels({"mixture:long_context": [1, 2], "long/needle": [3]})
    assert spread["long/needle"] == [3] and spread["long/recall"] == [1, 2]


def test_an_unknown_mixture_is_refused_with_what_is_like_it():
    with pytest.raises(ValidationError, match="did you mean puzzles"):
        weights("puzles")
    with pytest.raises(ConfigError, match="no mixture 'nothing'"):
        mixture_named("nothing")


def test_a_phase_takes_a_mixture_by_its_name_from_the_command_line():
    composed = compose(
        "training", model_of("training"), profile="micro", overrides=["training.tasks=long_context"]
    )
    assert composed.settings.tasks == pytest.approx(mixture_named("long_context"))
