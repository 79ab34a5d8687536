"""Text without a hub: small stories of a consistent world, cloze questions about them, and files of one's own.

A story is made of sentences over people, states, things and animals. What it says holds to its end, so a sentence of it
that is begun again has one right end.
"""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path

from components.shared.runtime.errors import InputError

from ..item import Draft, Task

PEOPLE = ("Al", "Bo", "Cy", "Di", "Ed", "Hu", "Jo", "Kit", "Li", "Mo", "Ned", "Sue", "Ty", "Vi")
ENDS = {
    "is": ("hot", "ill", "mad", "new", "old", "sad", "shy", "wet"),
    "has": ("ham", "ink", "jam", "oil", "pie", "rye", "tea", "wax"),
    "saw": ("cat", "dog", "emu", "fox", "hen", "owl", "pig", "rat"),
}
FILE = "file:"
WINDOW = 32  # characters of a file's text that one level adds


def story(rng: random.Random, level: int) -> tuple[list[tuple[str, str, str]], str]:
    """A story's facts (person, verb, end), and the verb that all its people share, each with another end.

    Level n has n + 1 people (8 at most), and from level 3 on n − 2 facts with other verbs between.
    """
    verb, *others = rng.sample(tuple(ENDS), len(ENDS))
    people = rng.sample(PEOPLE, cast(level))
    facts = [
        (person, verb, end) for person, end in zip(people, rng.sample(ENDS[verb], len(people)), strict=True)
    ]
    asides = rng.sample([(person, other) for person in people for other in others], max(0, level - 2))
    facts += [(person, other, rng.choice(ENDS[other])) for person, other in asides]
    rng.shuffle(facts)
    return facts, verb


def cast(level: int) -> int:
    """How many people a story of a level has."""
    return min(level + 1, 8)


def cloze(rng: random.Random, level: int) -> Draft:
    """`Al has jam. Bo has tea. Al has` → ` jam`: the end of a sentence that the story has told."""
    facts, verb = story(rng, level)
    person, _, end = rng.choice([fact for fact in facts if fact[1] == verb])
    choices = tuple(f" {end}" for _, other, end in facts if other == verb)
    return Draft(f"{sentences(facts)} {person} {verb}", f" {end}", choices=choices)


def prose(rng: random.Random, level: int) -> Draft:
    """A whole story, one of its sentences told again, with nothing asked: text to model, not a question to answer."""
    facts, _ = story(rng, level)
    text = sentences([*facts, rng.choice(facts)])
    return Draft("", text, family=text)


def sentences(facts: list[tuple[str, str, str]]) -> str:
    """The facts as text."""
    return " ".join(f"{person} {verb} {end}." for person, verb, end in facts)


@functools.lru_cache(maxsize=8)
def rows(path: str) -> tuple[Draft, ...]:
    """The rows of a local file, as drafts.

    `.jsonl` has {"prompt", "answer"} (and "system", "scratch") or {"text"} in each line; anything else is text whose
    documents are parted by empty lines.

    :raises InputError: the file is missing, empty, no UTF-8, or a line is not such an object (its number is named).
    """
    file = Path(path)
    try:
        content = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "a data file cannot be read", where=path, why=str(error), fix="name a readable UTF-8 file"
        ) from error
    if file.suffix == ".jsonl":
        drafts = [row(line, f"{path}:{n}") for n, line in enumerate(content.splitlines(), 1) if line.strip()]
    else:
        drafts = [
            Draft("", part.strip(), family=part.strip()) for part in content.split("\n\n") if part.strip()
        ]
    if not drafts:
        raise InputError("a data file is empty", where=path, fix="give it at least one row")
    return tuple(drafts)


def row(line: str, where: str) -> Draft:
    """One line of JSON as a draft.

    :param where: file and line, for errors.
    :raises InputError: it is no object with text, or with prompt and answer.
    """
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            "a row is not JSON", where=where, why=str(error), fix="write one object a line"
        ) from error
    required = {"text"} if isinstance(fields, dict) and "text" in fields else {"prompt", "answer"}
    if not isinstance(fields, dict) or any(not isinstance(fields.get(key), str) for key in required):
        raise InputError(
            "a row has neither text nor prompt and answer",
            where=where,
            fix='write {"text": "…"} or {"prompt": "…", "answer": "…"}',
        )
    if "text" in fields:
        return Draft("", fields["text"], family=fields["text"])
    return Draft(fields["prompt"], fields["answer"], fields.get("scratch", ""), fields.get("system", ""))


def from_file(path: str) -> Task:
    """The task `file:PATH`. Of a text of more than 32·level characters an item is a window of so many."""

    def generate(rng: random.Random, level: int) -> Draft:
        draft = rng.choice(rows(path))
        if draft.prompt or len(draft.answer) <= WINDOW * level:
            return draft
        start = rng.randrange(len(draft.answer) - WINDOW * level + 1)
        return Draft("", draft.answer[start : start + WINDOW * level], family=draft.family)

    return Task(f"{FILE}{path}", "text", generate, lambda level: 0.0)


TASKS = (
    Task("cloze", "memory", cloze, lambda level: 1 / cast(level)),
    Task("prose", "text", prose, lambda level: 0.0),
)
