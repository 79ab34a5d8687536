"""Finding again what was said before: key–value recall, near and far.

Chance is that of a guesser who answers with one of the values in the prompt, not of one who knows nothing.
"""

from __future__ import annotations

import random
import string

from ..item import LETTERS, Draft, Task


def pairs(level: int) -> int:
    """How many pairs a prompt of this level holds."""
    return level + 2


def recall(rng: random.Random, level: int) -> Draft:
    """`a3 k7 d1? k` → `7`: `level + 2` pairs with different keys and, as far as ten go, different values.

    The scratch puts the pairs in the order of their keys: one has to find every key again.
    """
    count = pairs(level)
    keys = rng.sample(LETTERS, count)
    values = rng.sample(string.digits * (1 + count // 11), count)
    target = rng.randrange(count)
    facts = [f"{key}{value}" for key, value in zip(keys, values, strict=True)]
    return Draft(
        f"{' '.join(facts)}? {keys[target]}",
        values[target],
        scratch=" ".join(sorted(facts)),
        choices=tuple(dict.fromkeys(values)),
    )


def latest(rng: random.Random, level: int) -> Draft:
    """`k3 a7 k5 d1? k` → `5`: of two values the last counts. Level n has n + 3 pairs over three keys.

    The scratch lists the values that the key was given.
    """
    target, *others = rng.sample(LETTERS, 3)
    keys = [target, target, *rng.choices(others, k=level + 1)]
    rng.shuffle(keys)
    own = iter(rng.sample(string.digits, 2))
    facts = [f"{key}{next(own) if key == target else rng.choice(string.digits)}" for key in keys]
    values = [fact[1] for fact in facts if fact[0] == target]
    return Draft(f"{' '.join(facts)}? {target}", values[-1], scratch="".join(values), choices=tuple(values))


def needle(rng: random.Random, level: int) -> Draft:
    """A long context: one fact among 16·level letters of noise, asked for at the end (`…kqz k=7 pfa… k?` → `7`)."""
    noise = "".join(rng.choices(LETTERS, k=16 * level))
    key, value = rng.choice(LETTERS), rng.choice(string.digits)
    position = rng.randrange(len(noise))
    return Draft(f"{noise[:position]} {key}={value} {noise[position:]} {key}?", value)


TASKS = (
    Task("recall", "memory", recall, lambda level: 1 / min(pairs(level), 10)),
    Task("latest", "memory", latest, lambda level: 1 / 2),
    Task("needle", "memory", needle, lambda level: 1 / 10),
)
