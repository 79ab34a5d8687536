"""Splits, determinism and the limits of the one way to an item."""

from __future__ import annotations

import random

import pytest

from components.shared.runtime.errors import ConfigError, InputError
from components.shared.tasks import registry
from components.shared.tasks.experts import EXPERTS
from components.shared.tasks.item import HELD_OUT_SUITE, LEVELS, SPLITS, Draft, Task
from components.shared.tasks.registry import TASKS, find, sample, split_of

LIGHT = [name for name in TASKS if not name.startswith(("gym/", "arc", "long/", "augmented"))]


def splits_of(name):
    """The splits that a task has."""
    return [split for split in SPLITS if split != "train" or TASKS[name].suite != HELD_OUT_SUITE]


def test_no_prompt_and_no_class_of_fifteen_thousand_items_is_in_two_splits():
    owner: dict[str, str] = {}
    items = 0
    for name in LIGHT:
        for split in splits_of(name):
            for index in range(200):
                item = sample(name, split, 1 + index % 4, index, seed=7)
                for text in (item.prompt or item.answer, item.family):
                    assert owner.setdefault(text, split) == split, (name, text)
                items += 1
    assert items >= 15_000


def test_a_prompt_stays_in_its_split_under_every_seed():
    for seed in range(40):
        item = sample("chain", "report", 1, 3, seed)
        assert split_of(item.family) == "report"


def test_seventy_percent_of_prompts_are_for_training_and_ten_for_each_other_split():
    rng = random.Random(0)
    splits = [split_of(TASKS["copy"].generate(rng, 3).prompt) for _ in range(6000)]
    assert splits.count("train") / 6000 == pytest.approx(0.7, abs=0.02)
    for split in SPLITS[1:]:
        assert splits.count(split) / 6000 == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("name", [name for name in TASKS if not name.startswith(("gym/", "long/"))])
def test_every_task_has_items_in_every_split_at_every_level_and_gives_the_same_ones_again(name):
    for split in splits_of(name):
        for level in LEVELS:
            item = sample(name, split, level, 5, seed=1)
            assert item == sample(name, split, level, 5, seed=1)
            assert item.answer and (item.task, item.level, item.split) == (name, level, split)
            assert 0 <= find(name).chance(level) < 1
            if item.choices:
                assert item.answer in item.choices or item.answer == "?"


def test_another_index_or_seed_gives_another_item():
    one = sample("copy", "train", 5, 0, 0)
    assert one != sample("copy", "train", 5, 1, 0)
    assert one != sample("copy", "train", 5, 0, 1)


def test_a_generator_too_small_for_a_split_says_so_and_does_not_hang(monkeypatch):
    lonely = next(text for text in map(str, range(100)) if split_of(text) == "train")
    tiny = Task("tiny", "reasoning", lambda rng, level: Draft(lonely, "1"), lambda level: 0.0)
    monkeypatch.setitem(registry.TASKS, "tiny", tiny)
    assert sample("tiny", "train", 1, 0, 0).answer == "1"
    with pytest.raises(InputError, match="space is too small"):
        sample("tiny", "report", 1, 0, 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("chian", "train", 1, 0, 0), "chain"),
        (("chain", "train", 0, 0, 0), "level"),
        (("chain", "report", 13, 0, 0), "level"),
        (("chain", "test", 1, 0, 0), "split"),
    ],
)
def test_a_wrong_name_level_or_split_is_refused_with_what_is_allowed(arguments, message):
    with pytest.raises(ConfigError, match=message):
        sample(*arguments)


@pytest.mark.parametrize("arguments", [("chain", "train", 11, 0, 0), ("hop", "train", 1, 0, 0)])
def test_what_generalization_asks_has_no_training_split(arguments):
    with pytest.raises(InputError, match="no training split"):
        sample(*arguments)


def test_expert_families_are_made_of_tasks_that_exist():
    assert len(EXPERTS) >= 3
    for cells in EXPERTS.values():
        for task, level in cells:
            assert sample(task, "search", level, 0, 0).answer
