"""Long context: facts in documents of up to 32 thousand tokens, asked for at the end.

    long/needle  one fact among three of its kind about other things, and pages of other text
    long/recall  one of many facts: level n has 2n + 4
    long/latest  a fact that changes on the way: what was said last counts

A level says how many characters the document has (SIZES): of English, four characters and a bit are a token of a usual
vocabulary, one is a token of the byte tokenizer. The pages are sentences made up for it; `long/needle:PATH` puts the facts
into the text of a file instead, real documents parted by empty lines (`file:PATH` reads the same). After the idea of
"needle in a haystack" tests (Kamradt 2023) and RULER (arXiv 2404.06654): other facts of the same form stand around,
so that finding the one number in the text is not enough.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path

from components.shared.runtime.errors import InputError

from ..item import Draft, Task
from . import text

SIZES = tuple(1024 * kilo for kilo in (1, 2, 4, 8, 16, 24, 32, 48, 64, 92))
"""Characters of a document, level by level."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COLOURS = _words(
    "amber black blue brown coral green grey ivory lilac olive pink red silver teal violet white"
)
THINGS = _words("barn boat chest clock desk door drawer gate lamp locker room safe shed tower vault wagon")
WHO = _words("baker clerk driver farmer guide nurse painter pilot singer tailor teacher writer")
DID = _words("borrowed carried cleaned counted drew found lost mended moved packed sold wrapped")
WHAT = _words("basket bottle carpet chair ladder letter map mirror parcel rope table umbrella")
WHERE = _words("beach bridge church corner field harbour hill market mill river school station")

Pages = Callable[[random.Random, int], list[str]]
"""(random stream, characters) → pieces of text of about so many characters; facts stand between two of them."""


def made_up(rng: random.Random, size: int) -> list[str]:
    """Sentences such as `On day 212 the baker mended a ladder at the mill.`: numbers stand in them too."""
    count = size // 50
    days = rng.choices(range(1000, 10000), k=count)
    parts = [rng.choices(words, k=count) for words in (WHO, DID, WHAT, WHERE)]
    return [
        f"On day {day} the {who} {did} a {what} at the {where}."
        for day, who, did, what, where in zip(days, *parts, strict=True)
    ]


def of_file(path: str, rng: random.Random, size: int) -> list[str]:
    """Whole lines of a file's documents, from a random place on and round its end.

    :raises InputError: the file is missing, unreadable or empty.
    """
    lines = lines_of(path)
    at, taken, pieces = rng.randrange(len(lines)), 0, []
    while taken < size:
        pieces.append(lines[at % len(lines)][: size - taken])
        taken += len(pieces[-1]) + 1
        at += 1
    return pieces


@functools.lru_cache(maxsize=4)
def lines_of(path: str) -> tuple[str, ...]:
    """The lines of a file's texts.

    :raises InputError: as `text.rows_of`, or they are empty.
    """
    texts = (row.draft.answer for row in text.rows_of(Path(path)))
    lines = tuple(line.strip() for each in texts for line in each.splitlines() if line.strip())
    if not lines:
        raise InputError("a file has no text", where=path, fix="give it some lines of text")
    return lines


def names(rng: random.Random, count: int) -> list[str]:
    """So many different things: `amber vault`."""
    return [
        f"{COLOURS[n // len(THINGS)]} {THINGS[n % len(THINGS)]}"
        for n in rng.sample(range(len(COLOURS) * len(THINGS)), count)
    ]


def codes(rng: random.Random, count: int) -> list[str]:
    """So many different numbers of four digits."""
    return [str(number) for number in rng.sample(range(1000, 10000), count)]


def asked(
    rng: random.Random, level: int, pages: Pages, facts: list[str], what: str, answer: str, choices: list[str]
) -> Draft:
    """The facts in their order, put between the pieces of the pages, and the question behind them."""
    pieces = pages(rng, SIZES[level - 1])
    places = sorted(rng.choices(range(len(pieces) + 1), k=len(facts)), reverse=True)
    for place, fact in zip(places, reversed(facts), strict=True):
        pieces.insert(place, fact)
    question = f"{' '.join(pieces)}\nWhat is the code of the {what}?\n"
    return Draft(question, answer, choices=tuple(choices), family=f"code of the {what}: {answer}")


def needle(pages: Pages, rng: random.Random, level: int) -> Draft:
    """Four things have a code each; one is asked for."""
    return one_of(4, pages, rng, level)


def recall(pages: Pages, rng: random.Random, level: int) -> Draft:
    """2·level + 4 things have a code each; one is asked for."""
    return one_of(2 * level + 4, pages, rng, level)


def one_of(count: int, pages: Pages, rng: random.Random, level: int) -> Draft:
    """So many things have a code each; one is asked for."""
    things, numbers = names(rng, count), codes(rng, count)
    facts = [f"The code of the {thing} is {number}." for thing, number in zip(things, numbers, strict=True)]
    target = rng.randrange(count)
    return asked(rng, level, pages, facts, things[target], numbers[target], numbers)


def latest(pages: Pages, rng: random.Random, level: int) -> Draft:
    """A code that changes level // 3 + 1 times, among as many changes of another thing's."""
    count = level // 3 + 2
    (target, other), numbers = names(rng, 2), codes(rng, 2 * count)
    own, others = numbers[:count], numbers[count:]
    order = [target] * count + [other] * count
    rng.shuffle(order)
    values = {target: iter(own), other: iter(others)}
    facts = [f"The code of the {thing} is now {next(values[thing])}." for thing in order]
    return asked(rng, level, pages, facts, target, own[-1], own)


KINDS: dict[str, tuple[Callable[[Pages, random.Random, int], Draft], Callable[[int], float]]] = {
    "long/needle": (needle, lambda level: 1 / 4),
    "long/recall": (recall, lambda level: 1 / (2 * level + 4)),
    "long/latest": (latest, lambda level: 1 / (level // 3 + 2)),
}
OVER = tuple(f"{kind}:" for kind in KINDS)
"""What the names of tasks over a file's documents begin with."""


def over_file(name: str) -> Task:
    """The task `long/KIND:PATH`; the file is looked for where an item is drawn."""
    kind, _, path = name.partition(":")
    generate, chance = KINDS[kind]
    return Task(name, "memory", functools.partial(generate, functools.partial(of_file, path)), chance)


TASKS = tuple(
    Task(name, "memory", functools.partial(generate, made_up), chance)
    for name, (generate, chance) in KINDS.items()
)
