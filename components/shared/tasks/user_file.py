"""A user's own tasks: one JSONL file, whose lines are questions. A wrong line is named by its number, with what is wrong.

    {"prompt": "2+2=", "answer": "4"}
    {"prompt": "What is 17 · 3?", "answer": "51", "grader": "number", "level": 2, "split": "report"}
    {"prompt": "The capital of France is", "answer": " Paris", "choices": [" Paris", " Rome"]}
    {"messages": [{"role": "user", "content": "…"}], "answer": "…", "grader": {"name": "regex", "pattern": "…"}}

KEYS says what each key is. `grader` is a name, or an object of a name and what the grader needs (graders.py); left out
it is `choice` where there are choices, `code` where there are tests, else `exact`. docs/tasks.md is the page of this file.

A line of HumanEval's or MBPP's own file is a question as well (code_benchmarks.py).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.wording import did_you_mean

from . import code_benchmarks
from .graders import CHOICE, grader, lacking
from .item import EXACT, LEVELS, SPLITS, Draft

KEYS = {
    "prompt": "the question; or messages",
    "messages": "a conversation that asks: [{role, content}, …], the last of them a user's",
    "answer": "the right answer; of choices also its number, from 0",
    "choices": "answers to choose from",
    "grader": "who says what is right: a name, module:function, FILE.py:function, or {name, …}",
    "level": "1 to 10, how hard it is; left out: at every level",
    "family": "rows of one family lie in one split; left out: the prompt",
    "split": "train, search, select or report; left out: a hash of the family decides",
    "system": "an instruction in front of the prompt",
    "scratch": "worked steps in front of the answer",
    "tests": "of the grader code: what the answer must pass",
    "limit": "tokens that an answer may have where it is generated",
    "id": "yours: not looked at",
    "meta": "yours: not looked at",
}
"""The keys of a line."""
ROLES = ("system", "user", "assistant")
SHOWN = 5
"""Wrong lines that one error tells of."""


class Row(NamedTuple):
    """A line: what it asks, and at which level; 0: at every one."""

    draft: Draft
    level: int


class Problem(NamedTuple):
    """What is wrong with a line."""

    line: int
    what: str


def rows(path: Path, content: str) -> tuple[Row, ...]:
    """The rows of a JSONL file.

    :param path: of the file; graders in files are looked for beside it.
    :raises InputError: lines are wrong; it names the first of them.
    """
    good, wrong = checked(path, content)
    if wrong:
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise InputError(
            "a line of a data file is wrong" if len(wrong) == 1 else f"{len(wrong)} lines of a data file are wrong",
            where=f"{path}:{wrong[0].line}",
            why="; ".join(f"line {line}: {what}" for line, what in wrong[:SHOWN]) + more,
            fix=f"the keys of a line are {', '.join(KEYS)}: docs/tasks.md",
        )  # fmt: skip
    return tuple(good)


def checked(path: Path, content: str) -> tuple[list[Row], list[Problem]]:
    """The rows of the lines that are right, and what is wrong with the others."""
    good: list[Row] = []
    wrong: list[Problem] = []
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            good.append(row(line, path.parent))
        except ValueError as error:
            wrong.append(Problem(number, str(error)))
    return good, wrong


def row(line: str, folder: Path) -> Row:
    """One line.

    :param folder: where files of graders are looked for.
    :raises ValueError: what is wrong with it.
    """
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(fields, dict):
        raise ValueError("it is no object: write {…} in each line")
    if (problem := code_benchmarks.draft_of(fields)) is not None:
        return Row(problem, 0)
    if "text" in fields:
        text = _text(fields, "text")
        return Row(Draft("", text, family=text), 0)
    if unknown := [key for key in fields if key not in KEYS]:
        raise ValueError(f"there is no key {unknown[0]!r}: {did_you_mean(unknown[0], list(KEYS))}")
    name, needs = _grader(fields, folder)
    choices = _choices(fields)
    messages = _messages(fields)
    prompt = "\n\n".join(text for _, text in messages) if messages else _text(fields, "prompt")
    draft = Draft(
        prompt,
        _answer(fields, choices, name),
        _text(fields, "scratch", ""),
        _text(fields, "system", ""),
        choices,
        grader=name,
        messages=messages,
        reference=json.dumps(needs, ensure_ascii=False) if needs else "",
        limit=_whole(fields, "limit", range(1, 1 << 20)),
        group=_text(fields, "family", ""),
        split=_one_of(fields, "split", SPLITS),  # type: ignore[arg-type]
    )
    if missing := lacking(draft):
        raise ValueError(f"the grader {name!r} {missing}")
    return Row(draft, _whole(fields, "level", LEVELS))


def _text(fields: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A text of a line.

    :raises ValueError: it is missing, or no text.
    """
    value = fields.get(key, default)
    if value is None:
        raise ValueError(f"it has no {key!r}: {KEYS.get(key, 'a text')}")
    if not isinstance(value, str):
        raise ValueError(f"{key!r} is {value!r}, and no text")
    return value


def _whole(fields: Mapping[str, Any], key: str, allowed: range) -> int:
    """A whole number of a line; 0 where it is left out.

    :raises ValueError: it is no number of these.
    """
    value = fields.get(key)
    if value is None:
        return 0
    if type(value) is not int or value not in allowed:
        raise ValueError(f"{key!r} is {value!r}, and no whole number from {allowed[0]} to {allowed[-1]}")
    return value


def _one_of(fields: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    """A word of a line; empty where it is left out.

    :raises ValueError: it is none of these.
    """
    value = fields.get(key)
    if value is not None and value not in allowed:
        raise ValueError(f"{key!r} is {value!r}, and none of {', '.join(allowed)}")
    return value or ""


def _choices(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The choices of a line.

    :raises ValueError: they are not two texts or more, all different.
    """
    value = fields.get("choices")
    if value is None:
        return ()
    texts = isinstance(value, list) and all(isinstance(text, str) and text for text in value)
    if not texts or len(value) < 2 or len(set(value)) < len(value):
        raise ValueError("'choices' are not two texts or more, all different")
    return tuple(value)


def _answer(fields: Mapping[str, Any], choices: tuple[str, ...], name: str) -> str:
    """The answer of a line; a choice may be said by its number. Only what others judge may have none.

    :raises ValueError: it is missing, or no text, or none of the choices that the grader asks for.
    """
    value = fields.get("answer")
    if choices and type(value) is int and 0 <= value < len(choices):
        return choices[value]
    if value is None and name not in (EXACT, CHOICE, "number"):
        return ""
    return _text(fields, "answer")


def _messages(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The conversation of a line; empty where a prompt asks.

    :raises ValueError: it is no conversation that a user has the last word in, or stands beside a prompt.
    """
    if "messages" not in fields:
        return ()
    for other in ("prompt", "system"):
        if other in fields:
            raise ValueError(f"it has 'messages' and {other!r}: write one of them")
    value = fields["messages"]
    pairs = [
        (turn["role"], turn["content"])
        for turn in (value if isinstance(value, list) else [])
        if isinstance(turn, dict) and turn.get("role") in ROLES and isinstance(turn.get("content"), str)
    ]
    if not pairs or len(pairs) < len(value):
        raise ValueError('\'messages\' is no list of {"role": system, user or assistant, "content": text}')
    if pairs[-1][0] != "user":
        raise ValueError("the last of 'messages' is not the user's: it is the answer that is asked for")
    return tuple(pairs)


def _grader(fields: Mapping[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """The name of a line's grader, and what it needs.

    :raises ValueError: it is neither a name nor an object with one, or there is no such grader.
    """
    usual = "code" if "tests" in fields else CHOICE if "choices" in fields else EXACT
    value = fields.get("grader", usual)
    needs = dict(value) if isinstance(value, dict) else {}
    name = needs.pop("name", usual) if isinstance(value, dict) else value
    if not isinstance(name, str):
        raise ValueError(f"'grader' is {value!r}, and neither a name nor an object with a name")
    if "tests" in fields:
        needs["tests"] = fields["tests"]
    file, colon, function = name.rpartition(":")
    if colon and file.endswith(".py"):
        name = f"{(folder / file).resolve()}:{function}"
    _require_grader(name)
    return name, needs


@functools.lru_cache(maxsize=64)
def _require_grader(name: str) -> None:
    """Refuse what is no grader.

    :raises ValueError: saying what is wrong with it.
    """
    try:
        grader(name)
    except ConfigError as error:
        raise ValueError(f"{error.what}{f' ({error.why})' if error.why else ''}: {error.fix}") from error
