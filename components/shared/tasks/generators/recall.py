"""Finding again what was said before: key–value recall, near and far.

Chance is that of a guesser who answers with one of the values in the prompt, not of one who knows nothing. Values are so
many that what a key had in one item says nothing of the next, and no letter of them comes twice in a prompt.
"""

from __future__ import annotations

import random
import string

from ..item import LETTERS, Draft, Task

VALUE_LETTERS = 2


def pairs(level: int) -> int:
    """How many pairs a prompt of this level holds."""
    return level + 2


def values(rng: random.Random, count: int) -> list[str]:
    """Different values of two capitals; no two have a letter in common as long as the alphabet lasts."""
    found: dict[str, None] = {}
    while len(found) < count:
        letters = "".join(rng.sample(string.ascii_uppercase, len(LETTERS)))
        found |= dict.fromkeys(letters[place : place + 2] for place in range(0, len(letters), VALUE_LETTERS))
    return list(found)[:count]


def recall(rng: random.Random, level: int) -> Draft:
    """`aBX kQM dUT? k` → `QM`: `level + 2` pairs of a key and a value, all different.

    The scratch puts the pairs in the order of their keys: one has to find every key again.
    One class: the same pairs in any order, and the same key.
    """
    count = pairs(level)
    keys, held = rng.sample(LETTERS, count), values(rng, count)
    target = rng.randrange(count)
    facts = [f"{key}{value}" for key, value in zip(keys, held, strict=True)]
    return Draft(
        f"{' '.join(facts)}? {keys[target]}",
        held[target],
        scratch=" ".join(sorted(facts)),
        choices=tuple(held),
        family=f"recall {' '.join(sorted(facts))}? {keys[target]}",
    )


def latest(rng: random.Random, level: int) -> Draft:
    """`kQM aBX kUT dCZ? k` → `UT`: of two values the last counts. Level n has n + 3 pairs over three keys.

    The scratch lists the values that the key was given.
    One class: the same key, and each key with the same values in the same order.
    """
    target, *others = rng.sample(LETTERS, 3)
    order = [target, target, *rng.choices(others, k=level + 1)]
    rng.shuffle(order)
    facts = [f"{key}{value}" for key, value in zip(order, values(rng, len(order)), strict=True)]
    own = [fact[1:] for fact in facts if fact[0] == target]
    by_key = sorted(facts, key=lambda fact: fact[0])
    return Draft(
        f"{' '.join(facts)}? {target}",
        own[-1],
        scratch=" ".join(own),
        choices=tuple(own),
        family=f"latest {' '.join(by_key)}? {target}",
    )


def needle(rng: random.Random, level: int) -> Draft:
    """A long context: three pairs among 16·level letters of noise, in which the keys do not occur; then as `recall`.

    One class: the same pairs anywhere in any noise, and the same key.
    """
    keys, held = rng.sample(LETTERS, 3), values(rng, 3)
    facts = [f"{key}{value}" for key, value in zip(keys, held, strict=True)]
    noise = "".join(rng.choices([letter for letter in LETTERS if letter not in keys], k=16 * level))
    ends = sorted(rng.sample(range(16 * level + 1), 3))
    pieces = [noise[start:end] for start, end in zip([0, *ends], [*ends, len(noise)], strict=True)]
    text = pieces[0] + "".join(f" {fact} {piece}" for fact, piece in zip(facts, pieces[1:], strict=True))
    target = rng.randrange(3)
    return Draft(
        f"{text.strip()}? {keys[target]}",
        held[target],
        choices=tuple(held),
        family=f"needle {' '.join(sorted(facts))}? {keys[target]}",
    )


TASKS = (
    Task("recall", "memory", recall, lambda level: 1 / pairs(level)),
    Task("latest", "memory", latest, lambda level: 1 / 2),
    Task("needle", "memory", needle, lambda level: 1 / 3),
)
