"""What a task is and what it yields: one question, its right answer, who grades it, and how it may be worked out.

A task is a pure function of a random stream and a level. It knows nothing of splits, seeds or batches:
`registry.sample` adds those. It does not know tokenisers either: an item is text.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "search", "select", "report"]
SPLITS: tuple[Split, ...] = ("train", "search", "select", "report")
LEVELS = range(1, 11)
HELD_OUT_LEVELS = range(11, 13)
"""Levels without a training split, and that no setting may name: what the suite generalization asks."""
HELD_OUT_SUITE = "generalization"
"""The suite of tasks without a training split, at whatever level."""
LETTERS = string.ascii_lowercase
EXACT = "exact"
"""The grader of most items: the answer, character by character."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a generator yields: an item before it is known to which split it belongs. Its fields are Item's, and some more.

    :param family: the item's functional class, which decides its split: two prompts that ask the same thing in other
        clothes (operands alike modulo ten, the same numbers in another order, a puzzle in other colours) name the same
        one. Left out, every prompt is a class of its own.
    :param group: what decides the split in place of `family`, where whole groups of classes are held out together (a word
        that one split alone may show).
    :param split: the split that the source itself gives it (an official test set); empty: the family decides.
    """

    prompt: str
    answer: str
    scratch: str = ""
    system: str = ""
    choices: tuple[str, ...] = ()
    grader: str = EXACT
    messages: tuple[tuple[str, str], ...] = ()
    reference: str = ""
    limit: int = 0
    family: str = ""
    group: str = ""
    split: Split | Literal[""] = ""

    def item(self, task: str, level: int, split: Split) -> Item:
        """The item that it is in a split."""
        return Item(
            task, level, split, self.prompt, self.answer, self.scratch, self.system, self.choices,
            self.grader, self.messages, self.reference, self.limit, self.functional_class,
        )  # fmt: skip

    @property
    def functional_class(self) -> str:
        """`family`, or the prompt (of a text the text) where it was left out."""
        return self.family or self.prompt or self.answer


@dataclass(frozen=True, slots=True)
class Item:
    """One verifiable item. For a language model its text is `system + prompt + scratch + answer`.

    :param prompt: the question.
    :param answer: the right answer: the only one, where it is compared as an exact string; for other graders one that
        they find right, which a model can learn to give.
    :param scratch: worked steps that lead to the answer; empty where there are none or they are not shown.
    :param system: an instruction in front of the prompt; empty for most items.
    :param choices: every answer that a guesser who has read the prompt would consider; empty where they are countless.
    :param grader: who says whether an answer is right: a name of `graders.GRADERS`, or `module:function`.
    :param messages: (role, content) of a conversation that asks in place of system and prompt; the prompt is then its
        text in one piece, which nobody is asked.
    :param reference: JSON of what the grader needs beside the answer: a tolerance, a pattern, tests.
    :param limit: tokens that an answer may have where it is generated; 0: as whoever evaluates says.
    :param family: the functional class (see Draft); empty where an item was written by hand.
    """

    task: str
    level: int
    split: Split
    prompt: str
    answer: str
    scratch: str = ""
    system: str = ""
    choices: tuple[str, ...] = ()
    grader: str = EXACT
    messages: tuple[tuple[str, str], ...] = ()
    reference: str = ""
    limit: int = 0
    family: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A named generator.

    :param name: what settings and items call it.
    :param suite: the suite that the task was written for ("reasoning", "memory", "safety", "behaviour", …). Those of
        "generalization" have no training split.
    :param generate: (random stream, level 1..12) → one draft; must use no other source of randomness.
    :param chance: level → the expected accuracy of the best guesser who does not do the task: who knows the form of the
        answer and, where the candidates stand in the prompt, picks one of these.
    :param rows: level → all drafts that there are, for a task that is a list and no generator (a file, a benchmark):
        items are drawn from it without repetition, every one once before any comes again. None for a generator.
    :param levels: the levels that such a list has; empty where its rows are for every level.
    """

    name: str
    suite: str
    generate: Callable[[random.Random, int], Draft]
    chance: Callable[[int], float]
    rows: Callable[[int], Sequence[Draft]] | None = None
    levels: tuple[int, ...] = ()
