"""Finding again what was said before: key–value recall, near and far.

Chance is that of a guesser who answers with one of the values in the prompt, not of one who knows nothing.
"""

from __future__ import annotations

import random
import string

from .item import Draft, Task

LETTERS = string.ascii_lowercase


def pairs(level: int) -> int:
    """How many pairs a prompt of this level holds."""
    return level + 2


def recall(rng: random.Random, level: int) -> Draft:
    """`a=3 k=7 d=1 k?` → `7`: `level + 2` pairs with different keys and different values (values repeat above 10)."""
    count = pairs(level)
    keys = rng.sample(LETTERS, count)
    values = rng.sample(string.digits, count) if count <= 10 else rng.choices(string.digits, k=count)
    asked = rng.randrange(count)
    facts = " ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
    return Draft(f"{facts} {keys[asked]}?", values[asked], choices=tuple(dict.fromkeys(values)))


def latest(rng: random.Random, level: int) -> Draft:
    """`a=3 k=7 a=5 a?` → `5`: the last value counts. Level n has n + 3 pairs over three keys, the asked one written twice."""
    keys = rng.sample(LETTERS, 3)
    asked = keys[0]
    written = [asked, asked, *rng.choices(keys[1:], k=level + 1)]
    rng.shuffle(written)
    values = rng.choices(string.digits, k=len(written))
    final = dict(zip(written, values, strict=True))
    facts = " ".join(f"{key}={value}" for key, value in zip(written, values, strict=True))
    return Draft(f"{facts} {asked}?", final[asked], choices=tuple(dict.fromkeys(values)))


def needle(rng: random.Random, level: int) -> Draft:
    """A long context: one fact among 16·level letters of noise, asked for at the end (`…kqz k=7 pfa… k?` → `7`)."""
    noise = "".join(rng.choices(LETTERS, k=16 * level))
    key, value = rng.choice(LETTERS), rng.choice(string.digits)
    place = rng.randrange(len(noise))
    return Draft(f"{noise[:place]} {key}={value} {noise[place:]} {key}?", value)


TASKS = (
    Task("recall", "memory", recall, lambda level: 1 / min(pairs(level), 10)),
    Task("latest", "memory", latest, lambda level: 1 / 2),
    Task("needle", "memory", needle, lambda level: 1 / 10),
)
