"""Words of random letters: copy, reverse, sort, shift, and the k-th letter. A word of level n has n + 2 letters."""

from __future__ import annotations

import math
import random

from ..item import LETTERS, Draft, Task


def length(level: int) -> int:
    """How many letters the words of a level have: exactly one length a level, so none is seen below its level."""
    return level + 2


def word(rng: random.Random, level: int) -> str:
    """Different letters in any order."""
    return "".join(rng.sample(LETTERS, length(level)))


def copy(rng: random.Random, level: int) -> Draft:
    """`copy dax=` → `dax`."""
    letters = word(rng, level)
    return Draft(f"copy {letters}=", letters)


def reverse(rng: random.Random, level: int) -> Draft:
    """`reverse dax=` → `xad`."""
    letters = word(rng, level)
    return Draft(f"reverse {letters}=", letters[::-1])


def sort(rng: random.Random, level: int) -> Draft:
    """`sort dax=` → `adx`. One class: the same letters in any order."""
    letters = word(rng, level)
    ordered = "".join(sorted(letters))
    return Draft(f"sort {letters}=", ordered, family=f"sort {ordered}")


def successor(rng: random.Random, level: int) -> Draft:
    """`next dax=` → `eby`: every letter's successor, z before a."""
    letters = word(rng, level)
    return Draft(f"next {letters}=", "".join(LETTERS[(LETTERS.index(letter) + 1) % 26] for letter in letters))


def letter(rng: random.Random, level: int) -> Draft:
    """`letter 2 dax=` → `a`, and `letter 0` is the last."""
    letters = word(rng, level)
    position = rng.randrange(length(level))
    return Draft(f"letter {position} {letters}=", letters[position - 1], choices=tuple(letters))


def guess_of_letters(level: int) -> float:
    """Chance of a guesser who knows the length alone."""
    return 26.0 ** -length(level)


def guess_of_order(level: int) -> float:
    """Chance of a guesser who puts the word's own letters into any order."""
    return 1 / math.factorial(length(level))


TASKS = (
    Task("copy", "reasoning", copy, guess_of_order),
    Task("reverse", "reasoning", reverse, guess_of_order),
    Task("sort", "reasoning", sort, guess_of_order),
    Task("next", "reasoning", successor, guess_of_letters),
    Task("letter", "reasoning", letter, lambda level: 1 / length(level)),
)
