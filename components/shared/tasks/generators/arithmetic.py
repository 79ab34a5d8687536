"""Numbers: chains of operations modulo ten, the largest of several, how many of a letter.

Each step of an item is one of few and is seen in training; the whole is one of thousands, and whole classes are held out:
what is learnt must be the rule.
"""

from __future__ import annotations

import random

from ..item import LETTERS, Draft, Task
from . import recall


def chain(rng: random.Random, level: int) -> Draft:
    """`47+3-2+1=` → `9`: operations from left to right without precedence, every result modulo ten.

    Of the two digits of the first number only the second counts, which has to be found out. Odd levels have operands
    from 1 to 3, even levels from 1 to 9; every second level has one operation more, from three at level 1 to seven at
    level 10; from level 7 on multiplication joins. The scratch counts: `47+3-2+1=` is `890 98 9`, one group of steps an
    operation.

    One class: the same last digit and the same operations modulo ten; `+3` is `-7`.
    """
    return chain_of(rng, level, (level + 1) // 2 + 2)


def chain_of(rng: random.Random, level: int, count: int) -> Draft:
    """A chain of `count` operations, of those of a level."""
    operations = "+-*" if level >= 7 else "+-"
    first = rng.randint(0, 99)
    text, value, steps, class_steps = f"{first:02}", first % 10, [], []
    for _ in range(count):
        operation, operand = rng.choice(operations), rng.randint(1, 3 if level % 2 else 9)
        text += f"{operation}{operand}"
        path = counting_steps(value, operation, operand)
        value = path[-1]
        steps.append("".join(map(str, path)))
        class_steps.append(f"*{operand}" if operation == "*" else f"+{int(f'{operation}{operand}') % 10}")
    return Draft(
        f"{text}=", str(value), scratch=" ".join(steps), family=f"chain {first % 10}{''.join(class_steps)}"
    )


def counting_steps(value: int, operation: str, operand: int) -> list[int]:
    """The operation as `operand` steps of counting modulo ten: up by one, down by one, or up by the value itself."""
    if operation == "*":
        return [value * times % 10 for times in range(1, operand + 1)]
    sign = 1 if operation == "+" else -1
    return [(value + sign * step) % 10 for step in range(1, operand + 1)]


def maximum(rng: random.Random, level: int) -> Draft:
    """`max 4BX 9QM 2UT=` → `QM`: what stands by the largest of `level + 2` different numbers.

    They have one digit to level 6, then two, from level 9 on three. The scratch is what stands by the largest so far.
    One class: the same numbers with the same values, in any order.
    """
    numbers = rng.sample(range(10 if level <= 6 else 100 if level <= 8 else 1000), level + 2)
    held = recall.values(rng, len(numbers))
    facts = [f"{number}{value}" for number, value in zip(numbers, held, strict=True)]
    so_far = [held[numbers.index(max(numbers[:end]))] for end in range(2, len(numbers) + 1)]
    return Draft(
        f"max {' '.join(facts)}=",
        so_far[-1],
        scratch=",".join(so_far),
        choices=tuple(held),
        family=f"max {' '.join(sorted(facts))}",
    )


def count(rng: random.Random, level: int) -> Draft:
    """`count b in abcab=` → `2`: occurrences of a letter in `2 level + 3` letters; every count is equally likely.

    One class: the same letter in the same letters, in any order.
    """
    length = 2 * level + 3
    letter, *others = rng.sample(LETTERS, 4)
    times = rng.randint(0, count_limit(level))
    letters = [letter] * times + rng.choices(others, k=length - times)
    rng.shuffle(letters)
    so_far, steps = 0, []
    for other in letters:
        so_far += other == letter
        steps.append(str(so_far))
    text = "".join(letters)
    return Draft(
        f"count {letter} in {text}=",
        str(times),
        scratch="".join(steps),
        family=f"count {letter} in {''.join(sorted(text))}",
    )


def count_limit(level: int) -> int:
    """The largest count that `count` asks for at a level: 0..limit are equally likely."""
    return min(level + 2, 9)


TASKS = (
    Task("chain", "reasoning", chain, lambda level: 1 / 10),
    Task("max", "reasoning", maximum, lambda level: 1 / (level + 2)),
    Task("count", "reasoning", count, lambda level: 1 / (count_limit(level) + 1)),
)
