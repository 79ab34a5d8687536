"""Scenarios of three agents who work on one question: an asker, a solver and a checker. The model takes one of the roles.

    scenario/asker    ask 47+_=0              → 3        the question that has the wanted answer
    scenario/solver   ask 47+3= try 9 no try  → 0        the answer, after attempts that the checker turned down
    scenario/checker  ask 47+3= try 9         → no 0     what was wrong with it, or `yes`

Right and wrong are known by construction: the question is a chain of sums, whose answer is known, and a wrong attempt is
any other digit. A scenario stands in the split of its chain. Its scratch is the chain's.
"""

from __future__ import annotations

import random
import re

from ..item import Draft, Task
from .arithmetic import chain

DIGITS = "0123456789"


def attempts(level: int) -> int:
    """How many attempts of the solver's were turned down before."""
    return 1 + level // 3


def asker(rng: random.Random, level: int) -> Draft:
    """A chain without one of its operands, and its answer: which operand (1 to 9) was it? There is one only."""
    question = chain(rng, min(level, 6))  # below the levels with products, which hide their operands
    operands = [match.start() for match in re.finditer(r"(?<=[+-])\d", question.prompt)]
    place = rng.choice(operands)
    blank = f"{question.prompt[:place]}_{question.prompt[place + 1 :]}"
    return Draft(f"ask {blank}{question.answer}", question.prompt[place], family=family(question))


def solver(rng: random.Random, level: int) -> Draft:
    """A chain that was answered wrongly, and the next attempt."""
    question = chain(rng, level)
    wrong = rng.sample([digit for digit in DIGITS if digit != question.answer], attempts(level))
    tries = " ".join(f"try {digit} no" for digit in wrong)
    return Draft(
        f"ask {question.prompt} {tries} try ", question.answer, question.scratch, family=family(question)
    )


def checker(rng: random.Random, level: int) -> Draft:
    """A chain and an answer, which is right in one half of the cases."""
    question = chain(rng, level)
    if rng.random() < 0.5:
        return Draft(
            f"ask {question.prompt} try {question.answer} ", "yes", question.scratch, family=family(question)
        )
    wrong = rng.choice([digit for digit in DIGITS if digit != question.answer])
    return Draft(
        f"ask {question.prompt} try {wrong} ",
        f"no {question.answer}",
        question.scratch,
        family=family(question),
    )


def family(question: Draft) -> str:
    """What decides the split: that which decides the chain's."""
    return question.family or question.prompt


TASKS = (
    Task("scenario/asker", "reasoning", asker, lambda level: 1 / 4),
    Task("scenario/solver", "reasoning", solver, lambda level: 1 / (10 - attempts(level))),
    Task("scenario/checker", "reasoning", checker, lambda level: 1 / 2),
)
