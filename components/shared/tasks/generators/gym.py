"""A short list of reasoning-gym's generators whose answers are short (arXiv 2505.24760).

A level sets every attribute of a generator's own curriculum to its level, as far as that goes. The questions are
English sentences of 60 to 500 characters: for models that read, not for the tiny profile.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from typing import Any

from ..item import Draft, Task

GENERATORS = (
    "calendar_arithmetic",
    "chain_sum",
    "count_bits",
    "gcd",
    "isomorphic_strings",
    "lcm",
    "leg_counting",
    "letter_counting",
    "products",
    "syllogism",
)
GUESSES = 300


@functools.cache
def configuration(name: str, level: int) -> Any:
    """The generator's configuration at a level 1..10 of ours."""
    from reasoning_gym.factory import create_curriculum  # a second, for those who use it

    curriculum = create_curriculum(name)
    for attribute, definition in curriculum.attributes.items():
        curriculum.set_attr_level(attribute, min(level, len(definition.levels)) - 1)
    return curriculum.generate_configuration({"seed": 0, "size": 1})


def question(name: str, rng: random.Random, level: int) -> Draft:
    """One question of a generator. It is seeded by a draw from `rng`."""
    from reasoning_gym.factory import DATASETS

    dataset, _ = DATASETS[name]
    settings = vars(configuration(name, level)) | {"seed": rng.getrandbits(31)}
    entry = dataset(type(configuration(name, level))(**settings))[0]
    return Draft(f"{entry['question'].strip()}\n", str(entry["answer"]).strip())


@functools.cache
def constant_guess(name: str, level: int) -> float:
    """How often the most frequent answer is right, over `GUESSES` questions: these generators state no distribution."""
    rng = random.Random(f"chance/{name}/{level}")
    answers = Counter(question(name, rng, level).answer for _ in range(GUESSES))
    return answers.most_common(1)[0][1] / GUESSES


def task(name: str) -> Task:
    """The task `gym/NAME`."""
    return Task(
        f"gym/{name}",
        "reasoning",
        functools.partial(question, name),
        functools.partial(constant_guess, name),
    )


TASKS = tuple(task(name) for name in GENERATORS)
