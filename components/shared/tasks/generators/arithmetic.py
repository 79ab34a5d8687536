"""Numbers: chains of operations modulo ten, the largest of several, how many of a letter.

Level 1 is a table that a small network learns in seconds; level 10 needs ten dependent steps.
"""

from __future__ import annotations

import random
import string

from ..item import Draft, Task


def chain(rng: random.Random, level: int) -> Draft:
    """`47+3=` → `0`: operations from left to right without precedence, every result modulo ten.

    Of the two digits of the first number only the second counts, which has to be found out. Odd levels have operands
    from 1 to 4, even levels from 1 to 9; every second level has one operation more, so that level 10 has five; from
    level 7 on multiplication joins. The scratch counts: `47+3-2=` is `890 98`, one group of steps an operation.
    """
    operations = "+-*" if level >= 7 else "+-"
    first = rng.randint(0, 99)
    text, value, steps = f"{first:02}", first % 10, []
    for _ in range((level + 1) // 2):
        operation, operand = rng.choice(operations), rng.randint(1, 4 if level % 2 else 9)
        text += f"{operation}{operand}"
        path = counting_steps(value, operation, operand)
        value = path[-1]
        steps.append("".join(map(str, path)))
    return Draft(f"{text}=", str(value), scratch=" ".join(steps))


def counting_steps(value: int, operation: str, operand: int) -> list[int]:
    """The operation as `operand` steps of counting modulo ten: up by one, down by one, or up by the value itself."""
    if operation == "*":
        return [value * times % 10 for times in range(1, operand + 1)]
    sign = 1 if operation == "+" else -1
    return [(value + sign * step) % 10 for step in range(1, operand + 1)]


def maximum(rng: random.Random, level: int) -> Draft:
    """`max 4 9 2=` → `9`: the largest of `level + 2` different numbers of one digit (to level 6), two, three."""
    high = 9 if level <= 6 else 99 if level <= 8 else 999
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
    so_far, steps = 0, []
    for other in letters:
        so_far += other == letter
        steps.append(str(so_far))
    return Draft(f"count {letter} in {''.join(letters)}=", str(times), scratch="".join(steps))


def count_limit(level: int) -> int:
    """The largest count that `count` asks for at a level: 0..limit are equally likely."""
    return min(level + 2, 9)


TASKS = (
    Task("chain", "reasoning", chain, lambda level: 1 / 10),
    Task("max", "reasoning", maximum, lambda level: 1 / (level + 2)),
    Task("count", "reasoning", count, lambda level: 1 / (count_limit(level) + 1)),
)
