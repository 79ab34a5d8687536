"""What a task is and what it yields: one question, its one right answer, and how it may be worked out.

A task is a pure function of a random stream and a level. It knows nothing of splits, seeds or batches:
`registry.sample` adds those. It does not know tokenisers either: an item is text.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "search", "select", "report"]
SPLITS: tuple[Split, ...] = ("train", "search", "select", "report")
LEVELS = range(1, 11)
LETTERS = string.ascii_lowercase


@dataclass(frozen=True, slots=True)
class Draft:
    """What a generator yields: an item before it is known to which split it belongs. Its fields are Item's, and `family`.

    :param family: what decides the split. It is the prompt where it is left out, unless many prompts are the same question
        in other clothes (an ARC puzzle with its colours permuted): then it names the question behind them.
    """

    prompt: str
    answer: str
    scratch: str = ""
    system: str = ""
    choices: tuple[str, ...] = ()
    family: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One verifiable item. For a language model its text is `system + prompt + scratch + answer`.

    :param prompt: the question.
    :param answer: the only right answer, compared as an exact string.
    :param scratch: worked steps that lead to the answer; empty where there are none or they are not shown.
    :param system: an instruction in front of the prompt; empty for most items.
    :param choices: every answer that a guesser who has read the prompt would consider; empty where they are countless.
    """

    task: str
    level: int
    split: Split
    prompt: str
    answer: str
    scratch: str = ""
    system: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A named generator.

    :param name: what settings and items call it.
    :param suite: the suite that the task was written for ("reasoning", "memory", "safety", "behaviour", …).
    :param generate: (random stream, level 1..10) → one draft; must use no other source of randomness.
    :param chance: level → the expected accuracy of the best guesser who does not do the task: who knows the form of the
        answer and, where the candidates stand in the prompt, picks one of these.
    """

    name: str
    suite: str
    generate: Callable[[random.Random, int], Draft]
    chance: Callable[[int], float]
