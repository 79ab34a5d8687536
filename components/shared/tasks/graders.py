r"""Who says whether an answer is right: graders by name, or a function of the user's by its import path.

    exact     the answer, character by character
    number    the number that the text ends in, or that it marks: #### 42, \boxed{42}
    regex     what a regular expression finds
    choice    the one of the choices that the text names first; of a model the likeliest, without any text
    code      the answer's program by the item's tests, in the sandbox (programs.py)
    gym       a task of reasoning-gym, by its own score_answer
    …         `module:function`, or `FILE.py:function`: (item, text) → how right, in [0, 1]

What a grader needs beside the answer stands in the item's `reference`, a JSON object. To add a grader is to add a line to
GRADERS: nothing is imported until an item asks for it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.wording import did_you_mean

from .extraction import extracted, number_of_answer, numbers_agree, until
from .item import EXACT, Draft, Item

Grader = Callable[[Item, str], float]
"""(item, the text of an answer) → how right it is, in [0, 1]."""

CHOICE = "choice"
GRADERS: dict[str, str] = {
    EXACT: f"{__name__}:exact",
    "number": f"{__name__}:number",
    "regex": f"{__name__}:regex",
    CHOICE: f"{__name__}:choice",
    "code": "components.shared.tasks.programs:code",
    "gym": "components.shared.tasks.generators.gym:score",
}
"""Where the grader of each name is."""


def grade(item: Item, text: str) -> float:
    """How right an answer is, in [0, 1].

    :raises ConfigError: there is no such grader, or it cannot be imported.
    :raises InputError: the grader gives no number in [0, 1].
    """
    value = grader(item.grader)(item, text)
    if not isinstance(value, int | float) or not 0 <= value <= 1:  # NaN is not
        raise InputError(
            f"the grader {item.grader!r} gives {value!r}", where=f"task {item.task}", why="it is no number from 0 to 1",
            fix="let it return how right the answer is: 1 for right, 0 for wrong",
        )  # fmt: skip
    return float(value)


@functools.cache
def grader(name: str) -> Grader:
    """The grader of a name or an import path.

    :raises ConfigError: there is none.
    """
    path = GRADERS.get(name, name)
    module, colon, function = path.rpartition(":")
    if not colon:
        raise ConfigError(
            f"there is no grader {name!r}", where="grader",
            fix=did_you_mean(name, [*GRADERS, "module:function", "FILE.py:function"]),
        )  # fmt: skip
    try:
        found = getattr(_module(module), function)
    except Exception as error:  # whatever a user's module does when it is imported
        raise ConfigError(
            f"the grader {name!r} cannot be imported", where=module, why=f"{type(error).__name__}: {error}",
            fix="give module:function of a module on PYTHONPATH, or FILE.py:function beside the data",
        ) from error  # fmt: skip
    if not callable(found):
        raise ConfigError(
            f"the grader {name!r} is no function", where=module, fix="name a function of (item, text)"
        )
    return found  # type: ignore[no-any-return]


def _module(name: str) -> ModuleType:
    """A module by its name, or by its file."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(f"agent_forge_graders.{Path(name).stem}", name)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference(item: Item | Draft) -> dict[str, Any]:
    """What the grader needs beside the answer."""
    return json.loads(item.reference) if item.reference else {}


def lacking(item: Item | Draft) -> str:
    """What a grader of this project finds missing or wrong in an item; empty where it can grade it."""
    needs = reference(item)
    for key in ("pattern", "not", "extract", *needs.get("ignore", ())):
        pattern = needs.get(key) if key in ("pattern", "not", "extract") else key
        if pattern is not None and (problem := _unreadable(pattern)):
            return f"has the regular expression {pattern!r}: {problem}"
    match item.grader:
        case "number" if number_of_answer(item.answer) is None:
            return f"finds no number in the answer {item.answer!r}"
        case "regex" if "pattern" not in needs:
            return 'has no pattern: {"name": "regex", "pattern": …}'
        case "choice" if item.answer not in item.choices:
            return f"has an answer that is none of its choices: {item.answer!r}"
        case "code" if not needs.get("tests"):
            return "has no tests"
        case "gym" if not needs:
            return "has no entry of reasoning-gym"
    return ""


def _unreadable(pattern: object) -> str:
    """What is wrong with a regular expression; empty where nothing is."""
    if not isinstance(pattern, str):
        return "it is no text"
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return ""


def how_scored(item: Item) -> Literal["forced", "choice", "written"]:
    """How a model's answer is found: by one forward over the right one, over every choice, or by letting it write."""
    if item.grader == CHOICE:
        return "choice"
    return "forced" if item.grader == EXACT and not item.reference else "written"


def exact(item: Item, text: str) -> float:
    """The answer, character by character; with a reference after extraction and clearing, as `extraction` has it."""
    needs = reference(item)
    if not needs:
        return float(text == item.answer)
    found = extracted(text, needs)
    return float(found is not None and found == extracted(item.answer, {**needs, "extract": None}))


def number(item: Item, text: str) -> float:
    """The number that a text marks or ends in, compared with the answer's as numbers.

    Reference: `extract` "flexible" (left out), "strict" or a regular expression; `tolerance` and `relative`.
    """
    return float(numbers_agree(item.answer, text, reference(item)))


def regex(item: Item, text: str) -> float:
    """Whether the reference's `pattern` is found in the text, and its `not` (if any) is not."""
    needs = reference(item)
    text = until(text, needs)
    without = needs.get("not")
    return float(bool(re.search(needs["pattern"], text)) and not (without and re.search(without, text)))


def choice(item: Item, text: str) -> float:
    """Whether the answer is the choice that the text names first, as whole words, in upper or lower case."""
    text = until(text, reference(item))

    def place(words: str) -> tuple[int, int]:
        found = re.search(rf"(?<!\w){re.escape(words.strip())}(?!\w)", text, re.IGNORECASE)
        return (found.start() if found else len(text), -len(words))

    first = min(item.choices, key=place)
    return float(first.strip() == item.answer.strip() and place(first)[0] < len(text))
