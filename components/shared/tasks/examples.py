"""Few-shot prompts: examples with their answers in front of a question (GPT-3, arXiv 2005.14165).

    turns    each example is a question of the user and an answer of the assistant, for models with a chat template
    text     Question: … Answer: …, parted by empty lines, the form of lm-evaluation-harness' gsm8k; for models without

Examples are training items of the item's own task: what reports is never shown. Where there are none, because the task is
asked of models that were never trained on it, they are of the split search; of a level above those of training they are
of the highest that is trained. All items of a task and level see the same
ones in the same order, so that what stands in front of them is read once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Literal

from components.shared.runtime.errors import InputError

from .graders import reference
from .item import EXACT, HELD_OUT_SUITE, LEVELS, Item, Split
from .registry import find, sample

Form = Literal["turns", "text"]
QUESTION = "Question:"
ANSWER = "Answer:"
OWN: Mapping[str, str] = {}
"""Every task's examples are its own."""


def with_examples(
    items: Sequence[Item], shots: int, *, form: Form, seed: int, drawn_from: Mapping[str, str] = OWN
) -> list[Item]:
    """The same items, each with examples in front of it.

    :param shots: how many; with 0 `text` still writes the question in its form, and `turns` changes nothing.
    :param seed: of the choice of examples.
    :param drawn_from: task → the task whose items are shown in its place.
    :raises InputError: the task has not so many different training items at the item's level.
    """
    of_cell = shown(items, shots, seed, drawn_from)
    show = in_turns if form == "turns" else in_text
    return [show(item, of_cell[item.task, item.level]) for item in items]


def shown(
    items: Sequence[Item], shots: int, seed: int, drawn_from: Mapping[str, str] = OWN
) -> dict[tuple[str, int], list[Item]]:
    """(task, level) → the examples in front of these items.

    :raises InputError: as `with_examples`.
    """
    cells = dict.fromkeys((item.task, item.level) for item in items)
    return {(task, level): examples(drawn_from.get(task, task), level, shots, seed) for task, level in cells}


def examples(task: str, level: int, count: int, seed: int) -> list[Item]:
    """Different training items of a task at a level.

    :raises InputError: there are fewer.
    """
    distinct: dict[str, Item] = {}
    split: Split = "search" if find(task).suite == HELD_OUT_SUITE else "train"
    taught = min(level, LEVELS[-1])
    for index in range(20 * count):
        if len(distinct) == count:
            break
        item = sample(task, split, taught, index, seed)
        distinct.setdefault(item.prompt, item)
    if len(distinct) < count:
        raise InputError(
            f"task {task!r} has only {len(distinct)} different training items at level {level}, not {count}",
            where="tasks.examples", why="examples are training items", fix="ask for fewer examples, or add rows for train",
        )  # fmt: skip
    return list(distinct.values())


def in_turns(item: Item, shown: Sequence[Item]) -> Item:
    """An item as a conversation in which the examples were asked and answered before."""
    if not shown:
        return item
    asked = _turns(item)
    lead = 1 if asked[0][0] == "system" else 0
    before = [turn for example in shown for turn in _answered(example)]
    return dataclasses.replace(item, messages=(*asked[:lead], *before, *asked[lead:]), system="")


def in_text(item: Item, shown: Sequence[Item]) -> Item:
    """An item as one text, in which the examples stand before the question. It is answered behind a space.

    The text ends where the next question would begin; for an answer of one line that is compared as it is, with the line.
    """
    parts = [f"{QUESTION} {_plain(example)}\n{ANSWER} {example.answer.lstrip()}" for example in shown]
    needs = reference(item)
    ends = [QUESTION, *(["\n"] if item.grader == EXACT and "\n" not in item.answer else [])]
    return dataclasses.replace(
        item,
        prompt="\n\n".join([*parts, f"{QUESTION} {_plain(item)}\n{ANSWER}"]),
        messages=(),
        answer=f" {item.answer.lstrip()}",
        choices=tuple(f" {choice.lstrip()}" for choice in item.choices),
        reference=json.dumps({**needs, "until": [*needs.get("until", ()), *ends]}),
    )


def _plain(item: Item) -> str:
    return item.prompt.strip()


def _turns(item: Item) -> tuple[tuple[str, str], ...]:
    """The conversation that asks an item."""
    if item.messages:
        return item.messages
    system = (("system", item.system),) if item.system else ()
    return (*system, ("user", item.prompt))


def _answered(example: Item) -> tuple[tuple[str, str], ...]:
    """The turns of an example and of its answer; an instruction stands once, before all."""
    turns = tuple(turn for turn in _turns(example) if turn[0] != "system")
    return (*turns, ("assistant", example.answer))
