"""Text without a hub: small stories of a consistent world, cloze questions about them, and files of one's own.

A story is made of sentences over people, states, things and animals. What it says holds to its end, so a sentence of it
that is begun again has one right end.
"""

from __future__ import annotations

import functools
import gzip
import importlib
import random
import zlib
from pathlib import Path

from components.shared.runtime.errors import InputError

from .. import user_file
from ..item import Draft, Task
from ..user_file import Row

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
    """`Al has jam. Bo has tea. Al has` → ` jam`: the end of a sentence that the story has told.

    One class: the same facts in any order, and the same question.
    """
    facts, verb = story(rng, level)
    person, _, end = rng.choice([fact for fact in facts if fact[1] == verb])
    choices = tuple(f" {end}" for _, other, end in facts if other == verb)
    question = f"{person} {verb}"
    family = f"{sentences(sorted(facts))} {question}"
    return Draft(f"{sentences(facts)} {question}", f" {end}", choices=choices, family=family)


def prose(rng: random.Random, level: int) -> Draft:
    """A whole story, one of its sentences told again, with nothing asked: text to model, not a question to answer."""
    facts, _ = story(rng, level)
    text = sentences([*facts, rng.choice(facts)])
    return Draft("", text, family=text)


def sentences(facts: list[tuple[str, str, str]]) -> str:
    """The facts as text."""
    return " ".join(f"{person} {verb} {end}." for person, verb, end in facts)


def from_file(path: str) -> Task:
    """The task `file:PATH`: its questions, every one once before any comes again; or windows of its text.

    `.jsonl` (or `.jsonl.gz`) has a question in each line, as `user_file` says, or {"text"}; anything else is text whose
    documents are parted by empty lines. A row that names its level is asked at that level alone. Of a text of more than
    32·level characters an item is a window of so many. A file that has changed is read again.

    :param path: of a file, or the address of one in a bucket.
    :raises InputError: the file is missing, empty, no UTF-8, or lines are wrong (they are named by number).
    """
    file = _local(path) if "://" in path else Path(path)
    try:
        stat = file.stat()
    except OSError as error:
        raise InputError(
            "a data file cannot be read", where=path, why=str(error), fix="name a readable UTF-8 file"
        ) from error
    return _task(path, file, stat.st_mtime_ns, stat.st_size)


@functools.cache
def _local(address: str) -> Path:
    """The copy of a file of a bucket: fetched once in a process.

    The client of buckets is imported by name, where one is named: settings are read without it.
    """
    found: Path = importlib.import_module("components.shared.runtime.store.local_copy").local_file(address)
    return found


@functools.lru_cache(maxsize=16)
def _task(path: str, file: Path, changed: int, size: int) -> Task:
    """The task of a file as it is at that time and of that size.

    :raises InputError: as `from_file`.
    """
    rows = rows_of(file)
    named = tuple(sorted({row.level for row in rows if row.level}))

    @functools.cache
    def at(level: int) -> tuple[Draft, ...]:
        drafts = tuple(row.draft for row in rows if row.level in (0, level))
        if not drafts:
            raise InputError(
                f"the file has no questions of level {level}",
                where=path,
                why=f"its rows have the levels {', '.join(map(str, named))}",
                fix="ask for these levels, or leave `level` out in rows that fit every one",
            )
        return drafts

    def window(rng: random.Random, level: int) -> Draft:
        draft = rng.choice(at(level))
        if draft.prompt or len(draft.answer) <= WINDOW * level:
            return draft
        start = rng.randrange(len(draft.answer) - WINDOW * level + 1)
        return Draft("", draft.answer[start : start + WINDOW * level], family=draft.family)

    def chance(level: int) -> float:
        return sum(1 / len(draft.choices) if draft.choices else 0.0 for draft in at(level)) / len(at(level))

    asks = all(row.draft.prompt for row in rows)
    return Task(f"{FILE}{path}", "text", window, chance, at if asks else None, named)


def rows_of(file: Path) -> tuple[Row, ...]:
    """The rows of a file: its lines, or its documents.

    :raises InputError: as `from_file`.
    """
    content = content_of(file)
    if ".jsonl" in file.suffixes:
        rows = user_file.rows(file, content)
    else:
        parts = [part.strip() for part in content.split("\n\n") if part.strip()]
        rows = tuple(Row(Draft("", part, family=part), 0) for part in parts)
    if not rows:
        raise InputError("a data file is empty", where=str(file), fix="give it at least one row")
    return rows


def content_of(file: Path) -> str:
    """The text of a file, unpacked where it ends in .gz.

    :raises InputError: it cannot be read, or is no UTF-8.
    """
    try:
        data = file.read_bytes()
        return (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(
            "a data file cannot be read", where=str(file), why=str(error), fix="name a readable UTF-8 file"
        ) from error


TASKS = (
    Task("cloze", "memory", cloze, lambda level: 1 / cast(level)),
    Task("prose", "text", prose, lambda level: 0.0),
)
