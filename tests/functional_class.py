"""What an item asks, read from its prompt alone: no word of the generators is taken for it.

Two items ask the same thing when what is written here is the same for both, whatever task and level they are of. And the
training items that an item of a suite might have been copied from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable

from components.shared.evaluation.cells import TRAINED, Cell
from components.shared.tasks.item import LEVELS, Item
from components.shared.tasks.registry import sample

SHOWN = {
    **{task: (trained,) for task, trained in TRAINED.items()},
    "compose": ("reverse", "sort", "next"),
    "relay": ("recall",),
    "hop": ("recall",),
}
"""What training shows of a task that it does not draw itself."""


def operations(text: str) -> list[str]:
    """`+3-2*4` as operations modulo ten, subtraction as addition."""
    found = re.findall(r"([+*-])(\d)", text)
    return [f"*{operand}" if sign == "*" else f"+{int(sign + operand) % 10}" for sign, operand in found]


def of_chain(prompt: str) -> Hashable:
    """Last digit of the first number, and the operations."""
    number = re.match(r"\d+", prompt)
    assert number is not None
    return ("chain", int(number[0]) % 10, *operations(prompt))


def of_words(prompt: str) -> Hashable:
    """Steps on letters; where sorting comes first, the letters in no order; `say` is `copy`."""
    *steps, letters = prompt.rstrip("=").replace("say ", "copy ").split()
    if steps[-1] == "sort":
        letters = "".join(sorted(letters))
    if {"reverse", "next"} == set(steps):
        steps = ["reverse", "next"]  # it does not matter which comes first
    return (*steps, letters)


def of_facts(prompt: str) -> Hashable:
    """Facts of each key in their order, wherever in noise, and the question."""
    facts, _, question = prompt.partition("? ")
    by_key: dict[str, list[str]] = {}
    for key, value in re.findall(r"\b([a-z])(=[a-z]|[A-Z]+)", facts):
        by_key.setdefault(key, []).append(value)
    return ("facts", frozenset((key, *values) for key, values in by_key.items()), question)


def of_story(prompt: str) -> Hashable:
    """The sentences in any order, and the one that is begun."""
    *told, begun = prompt.split(". ")
    return ("story", frozenset(told), begun)


def of_request(prompt: str) -> Hashable:
    """Verb and object of what is really asked."""
    asked = re.sub(r"\[.*?\]", "", prompt.split(" but ")[-1]).split(" for ")[0]
    return ("request", *asked.split()[-2:])


CLASSES: dict[str, Callable[[str], Hashable]] = {
    "chain": of_chain,
    "max": lambda prompt: ("max", frozenset(prompt.rstrip("=").split())),
    "count": lambda prompt: ("count", prompt.split()[1], *sorted(prompt.split(" in ")[1])),
    **dict.fromkeys(("copy", "reverse", "sort", "next", "compose"), of_words),
    **dict.fromkeys(("recall", "latest", "needle", "relay", "hop"), of_facts),
    "cloze": of_story,
    **dict.fromkeys(("request", "harmful", "harmless"), of_request),
}


def functional_class(item: Item) -> Hashable:
    """What the item asks."""
    return CLASSES[item.task](item.prompt)


def training_items(cell: Cell, count: int) -> list[Item]:
    """The training items that a cell's report items might have been copied from."""
    tasks, level = SHOWN.get(cell.task, (cell.task,)), min(cell.level, LEVELS[-1])
    return [sample(tasks[index % len(tasks)], "train", level, index, 0) for index in range(count)]
