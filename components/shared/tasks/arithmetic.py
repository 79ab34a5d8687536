"""Numbers: chains of operations modulo ten, the largest of several, how many of a letter.

Level 1 is a table that a small network learns in seconds; level 10 needs ten dependent steps.
"""

from __future__ import annotations

import random
import string

from .item import Draft, Task


def chain(rng: random.Random, level: int) -> Draft:
    """`47+38=` → `5`: `level` operations from left to right (no precedence), every result modulo ten.

    Level 1 has two-digit operands (only the last digit counts, which has to be found out), from level 2 on operands
    are single digits, and from level 5 on multiplication joins. The scratch lists the result after each operation.
    """
    operations = "+-*" if level >= 5 else "+-"
    high = 99 if level == 1 else 9
    value = rng.randint(0, high)
    text, steps = str(value), []
    value %= 10
    for _ in range(level):
        operation, operand = rng.choice(operations), rng.randint(0, high)
        text += f"{operation}{operand}"
        value = {"+": value + operand, "-": value - operand, "*": value * operand}[operation] % 10
        steps.append(str(value))
    return Draft(f"{text}=", steps[-1], scratch=",".join(steps))


def maximum(rng: random.Random, level: int) -> Draft:
    """`max 4 9 2=` → `9`: the largest of `level + 2` different numbers of one digit (levels 1–3) or of two and three."""
    high = 9 if level <= 3 else 99 if level <= 6 else 999
    numbers = rng.sample(range(high + 1), level + 2)
    names = [str(number) for number in numbers]
    best, steps = numbers[0], []
    for number in numbers[1:]:
        best = max(best, number)
        steps.append(str(best))
    return Draft(f"max {' '.join(names)}=", str(best), scratch=",".join(steps), choices=tuple(names))


def count(rng: random.Random, level: int) -> Draft:
    """`count b in abcab=` → `2`: occurrences of a letter in `2 level + 3` letters; every count is equally likely."""
    length = 2 * level + 3
    letter, *others = rng.sample(string.ascii_lowercase, 4)
    times = rng.randint(0, count_limit(level))
    letters = [letter] * times + rng.choices(others, k=length - times)
    rng.shuffle(letters)
    seen, steps = 0, []
    for other in letters:
        seen += other == letter
        steps.append(str(seen))
    return Draft(f"count {letter} in {''.join(letters)}=", str(times), scratch=",".join(steps))


def count_limit(level: int) -> int:
    """The largest count that `count` asks for at a level: 0..limit are equally likely."""
    return min(level + 2, 9)


TASKS = (
    Task("chain", "reasoning", chain, lambda level: 1 / 10),
    Task("max", "reasoning", maximum, lambda level: 1 / (level + 2)),
    Task("count", "reasoning", count, lambda level: 1 / (count_limit(level) + 1)),
)
