"""The 105 tasks of reasoning-gym (arXiv 2505.24760) as `gym/NAME`, through their own curricula, graded by themselves.

A level of 1 to 10 is a level of the task's curriculum (`set_global_level`: every attribute as far as it goes), spread so
that level 10 is the hardest that the curriculum has: a curriculum of four levels has each of them two or three times.
A range holds the levels below (INCLUSIVE); where the library refuses that, the level alone (UPPER_BOUND). What it
refuses either way, or takes many seconds to make, is the nearest level that it does not. Three tasks have no curriculum
(PLAIN) and no parameter of size: they are the same at every level. One has a curriculum that cannot be used (KNIGHTS).
`composite` is none of the 105: it is made of others.

An item's number is an index into the data set of its level, so that `task, level, number` is the whole of its reference:
whoever grades makes the entry again, with all that `score_answer` looks at, and nothing has to survive JSON.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
from typing import Any

from components.shared.runtime.errors import InputError

from ..gym_bounds import bound_number_sequences
from ..gym_chance import CHANCE
from ..gym_solutions import solution
from ..item import LEVELS, Draft, Item, Split, Task
from .arc import puzzles

PLAIN = ("acre", "gsm_symbolic", "list_functions")
"""Without a curriculum: their default configuration at every level."""

KNIGHTS = "knight_swap"
"""Its curriculum begins with boards that its configuration refuses, or that it searches for minutes: the default
configuration, with boards of up to 8 + level // 2 squares."""

ALONE = (*PLAIN, "codeio")
"""Made anew for each item: they draw all their items at once, or keep their data where another level's would replace it."""

HARDEST = {
    **{"jugs": 1, "n_queens": 3, "sokoban": 8, "zebra_puzzles": 1},
    **{"game_of_life": 0, "game_of_life_halting": 1, "rubiks_cube": 0},
}
"""Level of the curriculum above which an item takes a second of a core and more to make, all items are the same few, or the
library's own answers are not right (rubiks_cube)."""

EASIEST = {"coin_flip": 2, "propositional_logic": 1, "sokoban": 1, "tower_of_hanoi": 1}
"""Level of the curriculum below which making an item may not end, or there are too few items for four splits."""

TRIES = 20
"""Numbers that are tried: some generators give up on a few of theirs."""


def curriculum_level(level: int, easiest: int, hardest: int) -> int:
    """The level of a curriculum (from `easiest` to `hardest`) that is level 1..10 of ours."""
    return easiest + round((level - LEVELS[0]) / (LEVELS[-1] - LEVELS[0]) * (hardest - easiest))


@functools.lru_cache(maxsize=256)
def configuration(name: str, level: int) -> Any:
    """The generator's configuration at a level 1..10 of ours.

    :raises InputError: the library refuses every level of its curriculum.
    """
    from reasoning_gym.coaching.base_curriculum import DefaultCurriculumContext, RangeAttributeMode
    from reasoning_gym.factory import DATASETS, create_curriculum  # a second, for those who use it

    if name in PLAIN:
        return DATASETS[name][1](seed=0, size=1)
    if name == KNIGHTS:
        return DATASETS[name][1](seed=0, size=1, max_nodes=8 + level // 2)
    curriculum = create_curriculum(name)
    top = max((len(attribute.levels) for attribute in curriculum.attributes.values()), default=1) - 1
    wanted = curriculum_level(level, EASIEST.get(name, 0), min(HARDEST.get(name, top), top))
    for number in [*range(wanted, -1, -1), *range(wanted + 1, top + 1)]:
        curriculum.set_global_level(number)
        for mode in (RangeAttributeMode.INCLUSIVE, RangeAttributeMode.UPPER_BOUND):
            try:
                made = curriculum.generate_configuration(
                    {"seed": 0, "size": 1}, DefaultCurriculumContext(mode)
                )
                if hasattr(made, "validate"):  # tsumego's and power_function's configurations have none
                    made.validate()
            except (AssertionError, ValueError):  # attributes that do not go together, or are out of bounds
                continue
            return made
    raise InputError(f"no level of gym/{name} can be configured", where="reasoning_gym", fix="leave it out")


@functools.lru_cache(maxsize=64)
def dataset(name: str, level: int, seed: int) -> Any:
    """The data set of a level; its items are functions of (seed + index)."""
    from reasoning_gym.factory import DATASETS

    bound_number_sequences()
    settings = configuration(name, level)
    size = 5 if name == "acre" else 1  # of acre's three regimes, each its share of five
    return DATASETS[name][0](type(settings)(**(vars(settings) | {"seed": seed, "size": size})))


def entry(name: str, level: int, number: int) -> tuple[Any, dict[str, Any]]:
    """Item `number` of a task at a level, with the data set that can grade it.

    :raises ValueError, RuntimeError, AssertionError, IndexError: the generator gives this number up.
    """
    if name not in ALONE:
        data = dataset(name, level, 0)
        data.size = 2**31  # word_ladder refuses an index beyond it
        return data, data[number]
    data = dataset.__wrapped__(name, level, number)
    with contextlib.redirect_stdout(io.StringIO()):  # the programs of codeio print
        return data, data[0]


def question(name: str, rng: random.Random, level: int) -> Draft:
    """One question of a generator: a draw from `rng` is its number.

    :raises InputError: the generator gave up on every number that was tried.
    """
    for _ in range(TRIES):
        number = rng.getrandbits(31)
        try:
            data, made = entry(name, level, number)
        except (ValueError, RuntimeError, AssertionError, IndexError):
            continue
        answer = solution(name, made)
        if answer is not None and data.score_answer(answer, made) == 1:
            reference = json.dumps({"task": name, "level": level, "number": number})
            split = official(made["metadata"]["task_id"]) if name == "arc_agi" else ""
            return Draft(
                f"{made['question'].strip()}\n", answer, grader="gym", reference=reference, split=split
            )
    raise InputError(
        f"gym/{name} has no question at level {level}",
        where="reasoning_gym",
        why=f"its generator failed {TRIES} times in a row, or its own answers earn no full score",
        fix="use another level, or leave the task out",
    )


@functools.cache
def _official_splits() -> dict[str, Split]:
    return {puzzle.task_id: puzzle.split for puzzle in puzzles()}


def official(task_id: str) -> Split:
    """The split of an ARC puzzle: arc_agi draws from the training and the evaluation set alike."""
    return _official_splits()[task_id]


def score(item: Item, text: str) -> float:
    """How right the task's own `score_answer` finds an answer, in [0, 1]; the grader `gym`."""
    needs = json.loads(item.reference)
    data, made = entry(needs["task"], needs["level"], needs["number"])
    return min(1.0, max(0.0, float(data.score_answer(text.strip(), made))))


def constant_guess(name: str, level: int) -> float:
    """How often the most frequent answer is right, as counted once (`gym_chance`): the tasks state no distribution."""
    return CHANCE[name][level - 1]


def task(name: str) -> Task:
    """The task `gym/NAME`."""
    return Task(
        f"gym/{name}",
        "reasoning",
        functools.partial(question, name),
        functools.partial(constant_guess, name),
    )


TASKS = tuple(task(name) for name in CHANCE)
