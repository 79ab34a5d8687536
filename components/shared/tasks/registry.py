"""Every task by name, and `sample`: the one way from (task, split, level, index, seed) to an item.

Splits are disjoint by construction: a hash of what the item asks puts it into one of twenty buckets, and a draft that
falls into another split's bucket is thrown away. The hash takes no seed: a prompt belongs to one split for good.
"""

from __future__ import annotations

import difflib
import hashlib
import random
from collections.abc import Callable

from components.shared.runtime.errors import ConfigError, InputError

from . import arc, arithmetic, behaviours, gym, recall, safety, strings, text
from .item import LEVELS, Draft, Item, Split, Task

Generator = Callable[[random.Random, int], Draft]

TASKS: dict[str, Task] = {
    task.name: task
    for module in (arithmetic, strings, recall, text, safety, arc, gym, behaviours)
    for task in module.TASKS
}

BUCKETS = 20
OF_SPLIT: dict[Split, range] = {
    "train": range(0, 14),
    "search": range(14, 16),
    "select": range(16, 18),
    "report": range(18, 20),
}
ATTEMPTS = 400  # a split of two buckets in twenty misses 400 times in a row with probability 5e-19


def find(name: str) -> Task:
    """The task of this name; ConfigError with the nearest names otherwise."""
    if name.startswith(text.FILE):
        return text.from_file(name.removeprefix(text.FILE))
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, n=3) or sorted(TASKS)
    raise ConfigError(f"there is no task {name!r}", where="tasks", fix=f"use one of: {', '.join(near)}")


def split_of(family: str) -> Split:
    """The split to which a prompt (or the family of prompts that it stands for) belongs."""
    bucket = int.from_bytes(hashlib.blake2b(family.encode(), digest_size=8).digest()) % BUCKETS
    return next(split for split, buckets in OF_SPLIT.items() if bucket in buckets)


def sample(task: str, split: Split, level: int, index: int, seed: int) -> Item:
    """The item number `index` of a split: a pure function of its arguments. Errors as in `sample_draft`."""
    draft = sample_draft(find(task).generate, task, split, level, index, seed)
    return Item(task, level, split, draft.prompt, draft.answer, draft.scratch, draft.system, draft.choices)


def sample_draft(generate: Generator, name: str, split: Split, level: int, index: int, seed: int) -> Draft:
    """What a generator drafts as number `index` of a split; `name` keeps its random stream apart from others'.

    :raises ConfigError: level outside 1..10, unknown split.
    :raises InputError: the generator's space at this level is so small that nothing of it fell into the split.
    """
    if level not in LEVELS or split not in OF_SPLIT:
        raise ConfigError(
            f"there is no level {level!r} of split {split!r}",
            where=f"task {name}",
            fix=f"use a level from {LEVELS[0]} to {LEVELS[-1]} and a split of: {', '.join(OF_SPLIT)}",
        )
    rng = random.Random(f"{name}/{split}/{level}/{index}/{seed}")
    for _ in range(ATTEMPTS):
        draft = generate(rng, level)
        if split_of(draft.family or draft.prompt) == split:
            return draft
    raise InputError(
        f"task {name!r} has nothing for the split {split!r} at level {level}",
        where="tasks.sample",
        why=f"{ATTEMPTS} drafts in a row belonged to other splits: the generator's space is too small",
        fix="use a higher level, or give the generator more prompts",
    )
