"""Known skills put together as no training item puts them: what the suite generalization asks.

None of these tasks has a training split. Each asks for two steps that training teaches one at a time.
"""

from __future__ import annotations

import random

from ..item import HELD_OUT_SUITE, LETTERS, Draft, Task
from . import recall, strings

STEPS = {
    "reverse": lambda letters: letters[::-1],
    "sort": lambda letters: "".join(sorted(letters)),
    "next": lambda letters: "".join(LETTERS[(LETTERS.index(letter) + 1) % 26] for letter in letters),
}
PAIRS = (("reverse", "next"), ("next", "reverse"), ("reverse", "sort"), ("next", "sort"), ("sort", "next"))
"""Outer and inner step. `sort reverse` is no pair: it is `sort`, which training teaches."""


def compose(rng: random.Random, level: int) -> Draft:
    """`reverse sort dax=` → `xda`: the inner step, then the outer one, on a word of `level + 2` letters.

    One class: the same letters with the same answer.
    """
    outer, inner = rng.choice(PAIRS)
    letters = strings.word(rng, level)
    answer = STEPS[outer](STEPS[inner](letters))
    return Draft(f"{outer} {inner} {letters}=", answer, family=f"compose {''.join(sorted(letters))} {answer}")


def relay(rng: random.Random, level: int) -> Draft:
    """`aBX kQM? reverse k` → `MQ`: a value of `level + 2` pairs, turned round.

    One class: the same pairs in any order, and the same key.
    """
    found = recall.recall(rng, level)
    facts, key = found.prompt.split("? ")
    turned = tuple(value[::-1] for value in found.choices)
    return Draft(
        f"{facts}? reverse {key}", found.answer[::-1], choices=turned, family=f"reverse {found.family}"
    )


def hop(rng: random.Random, level: int) -> Draft:
    """`b=k kQM d=x xBX? b` → `QM`: from a key to another key, and from that to its value; `level + 1` ways.

    One class: the same facts in any order, and the same key.
    """
    count = ways(level)
    names, values = rng.sample(LETTERS, 2 * count), recall.values(rng, count)
    starts, ends = names[:count], names[count:]
    facts = [f"{start}={end}" for start, end in zip(starts, ends, strict=True)]
    facts += [f"{end}{value}" for end, value in zip(ends, values, strict=True)]
    rng.shuffle(facts)
    target = rng.randrange(count)
    return Draft(
        f"{' '.join(facts)}? {starts[target]}",
        values[target],
        choices=tuple(values),
        family=f"hop {' '.join(sorted(facts))}? {starts[target]}",
    )


def ways(level: int) -> int:
    """How many chains of two facts a prompt of `hop` holds."""
    return level + 1


TASKS = (
    Task("compose", HELD_OUT_SUITE, compose, strings.guess_of_order),
    Task("relay", HELD_OUT_SUITE, relay, lambda level: 1 / recall.pairs(level)),
    Task("hop", HELD_OUT_SUITE, hop, lambda level: 1 / ways(level)),
)
