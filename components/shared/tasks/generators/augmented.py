"""Retrieval-augmented questions: what a calculation needs stands in a store, of which the likeliest entries are shown.

    dax4 dix9 dag1 xad7? dax+3=   →   7

The store is larger than what is shown: entries are ranked by how much their names are like those in the question, as a
retriever would (letters shared at the same place, then anywhere), so that the wrong ones are the hard ones. From level 6
on two entries are needed. The scratch looks the names up and counts on.
"""

from __future__ import annotations

import random

from ..item import LETTERS, Draft, Task
from .arithmetic import counting_steps

STORE = 24
"""Entries of the store; half of their names differ from an asked one in a single letter."""


def shown(level: int) -> int:
    """How many entries a question of a level brings along."""
    return level + 3


def likeness(name: str, other: str) -> tuple[int, int, str]:
    """How like two names are: letters at the same place, letters shared, and the name itself for an order without ties."""
    same = sum(a == b for a, b in zip(name, other, strict=True))
    return same, len(set(name) & set(other)), other


def store_of(rng: random.Random, asked: list[str]) -> dict[str, int]:
    """Names of three letters and their digits: the asked ones, others like them, others."""
    names = list(asked)
    while len(names) < STORE:
        name = "".join(rng.sample(LETTERS, 3))
        if len(names) < STORE // 2:
            place, near = rng.randrange(3), rng.choice(asked)
            name = near[:place] + rng.choice(LETTERS) + near[place + 1 :]
        if name not in names:
            names.append(name)
    return {name: rng.randrange(10) for name in names}


def retrieved(store: dict[str, int], asked: list[str], count: int) -> list[str]:
    """The `count` names of the store that are most like one of the asked names."""
    ranked = sorted(store, key=lambda name: max(likeness(one, name) for one in asked), reverse=True)
    return ranked[:count]


def augmented(rng: random.Random, level: int) -> Draft:
    """A chain of sums whose first number (from level 6 on, whose last one too) is an entry of the store."""
    asked = ["".join(rng.sample(LETTERS, 3)) for _ in range(1 if level < 6 else 2)]
    while len(set(asked)) < len(asked):
        asked[-1] = "".join(rng.sample(LETTERS, 3))
    store = store_of(rng, asked)
    entries = retrieved(store, asked, shown(level))
    rng.shuffle(entries)
    question, value, steps = asked[0], store[asked[0]], [f"{asked[0]}{store[asked[0]]}"]
    for number in range((level + 1) // 2):
        last = number == (level + 1) // 2 - 1 and len(asked) == 2
        operand = store[asked[1]] if last else rng.randint(1, 9)
        operation = rng.choice("+-")
        path = counting_steps(value, operation, operand)
        value = path[-1] if path else value
        question += f"{operation}{asked[1] if last else operand}"
        steps.append((f"{asked[1]}{operand} " if last else "") + "".join(map(str, path)))
    context = " ".join(f"{name}{store[name]}" for name in entries)
    known = " ".join(f"{name}{store[name]}" for name in asked)
    return Draft(
        f"{context}? {question}=", str(value), scratch=" ".join(steps), family=f"{known}? {question}"
    )


TASKS = (Task("augmented", "memory", augmented, lambda level: 1 / 10),)
