"""Every task by name, and `sample`: the one way from (task, split, level, index, seed) to an item.

A task is found, not listed: every module of `generators/`, and every file of a folder that `add_folder` or
FORGE_TASK_FOLDERS names, contributes the tasks of its `TASKS`.

Splits are disjoint by construction: a hash of an item's functional class puts it into one of twenty buckets, and a draft
that falls into another split's bucket is thrown away. The hash takes no seed: a class belongs to one split for good.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import pkgutil
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from components.shared.runtime.code import task_folders
from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.wording import did_you_mean

from . import generators
from .generators import arc, long, text
from .item import HELD_OUT_LEVELS, HELD_OUT_SUITE, LEVELS, Draft, Item, Split, Task

Generator = Callable[[random.Random, int], Draft]

TASKS: dict[str, Task] = {}
"""Every task that was found, by name."""

SOURCES: dict[str, str] = {}
"""The file of each of them."""

BUCKETS = 20
OF_SPLIT: dict[Split, range] = {
    "train": range(0, 14),
    "search": range(14, 16),
    "select": range(16, 18),
    "report": range(18, 20),
}
ATTEMPTS = 400  # a split of two buckets in twenty misses 400 times in a row with probability 5e-19


def add_folder(folder: Path | str) -> list[str]:
    """Register the tasks of every Python file of a folder that has `TASKS`, in this process.

    FORGE_TASK_FOLDERS (folders, parted as in PATH) does so in every process. A file that was added before is left out.

    :returns: the names of the new tasks.
    :raises ConfigError: no such folder, a file that cannot be imported, `TASKS` that are none, or a name that is taken.
    """
    files = sorted(Path(folder).resolve().glob("*.py"))
    if not Path(folder).is_dir():
        raise ConfigError("there is no such folder of tasks", where=str(folder), fix="check the path")
    return [name for file in files if str(file) not in SOURCES.values() for name in register(_load(file))]


def register(module: ModuleType) -> list[str]:
    """Register the tasks of a module's `TASKS`; a module without any is no module of tasks, and nothing happens.

    :returns: their names.
    :raises ConfigError: `TASKS` holds something else than tasks, or a name that is taken; nothing is registered then.
    """
    file, tasks = str(module.__file__), getattr(module, "TASKS", ())
    names = [task.name if isinstance(task, Task) else None for task in tasks]
    for task, name in zip(tasks, names, strict=True):
        if name is None:
            raise ConfigError(
                "TASKS holds something that is no Task", where=file, why=repr(task), fix="make each a Task(…)"
            )
        if name in TASKS or names.count(name) > 1:
            raise ConfigError(
                f"there are two tasks {name!r}",
                where=file,
                why=f"the other is in {SOURCES.get(name, file)}",
                fix="give one of them another name",
            )
        if name.startswith(text.FILE):
            raise ConfigError(
                f"no task may be called {name!r}",
                where=file,
                why=f"{text.FILE}PATH is a file of data",
                fix="give it another name",
            )
    for task in tasks:
        TASKS[task.name], SOURCES[task.name] = task, file
    return [task.name for task in tasks]


def _load(file: Path) -> ModuleType:
    """The module in a file outside the package."""
    spec = importlib.util.spec_from_file_location(f"agent_forge_tasks.{file.stem}", file)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            "a file of tasks cannot be imported",
            where=str(file),
            why=f"{type(error).__name__}: {error}",
            fix="mend it, or take it out of the folder",
        ) from error
    return module


def find(name: str) -> Task:
    """The task of this name, or of `file:PATH`, `arc:FOLDER`, `long/needle:PATH` and their like.

    :raises ConfigError: there is none; with the names that are like it.
    """
    if name.startswith(text.FILE):
        return text.from_file(name.removeprefix(text.FILE))
    if name.startswith(long.OVER):
        return long.over_file(name)
    if name.startswith(arc.OVER):
        return arc.over_folder(name)
    if name in TASKS:
        return TASKS[name]
    raise ConfigError(f"there is no task {name!r}", where="tasks", fix=did_you_mean(name, sorted(TASKS)))


def split_of(family: str) -> Split:
    """The split to which a functional class belongs: all prompts that ask the same thing, in whatever clothes."""
    bucket = int.from_bytes(hashlib.blake2b(family.encode(), digest_size=8).digest()) % BUCKETS
    return next(split for split, buckets in OF_SPLIT.items() if bucket in buckets)


def sample(task: str, split: Split, level: int, index: int, seed: int) -> Item:
    """The item number `index` of a split: a pure function of its arguments.

    :raises ConfigError: no such task, level or split.
    :raises InputError: as `sample_draft`; the training split of a task or level that is held out.
    """
    found = find(task)
    if split == "train" and (found.suite == HELD_OUT_SUITE or level in HELD_OUT_LEVELS):
        raise InputError(
            f"task {task!r} has no training split at level {level}",
            where="tasks.sample",
            why=f"the suite {HELD_OUT_SUITE} asks it of models that were never trained on it",
            fix=f"train on other tasks, at levels up to {LEVELS[-1]}",
        )
    if found.rows is not None:
        return row_of(found, split, level, index, seed).item(task, level, split)
    return sample_draft(found.generate, task, split, level, index, seed).item(task, level, split)


def row_of(task: Task, split: Split, level: int, index: int, seed: int) -> Draft:
    """The draft number `index` of a task that is a list: a permutation of the split's rows for every pass through them.

    :raises ConfigError: level outside 1..10, unknown split.
    :raises InputError: no row belongs to the split.
    """
    require(level, split, task.name)
    assert task.rows is not None
    rows = rows_of_split(task.rows, level, split)
    if not rows:
        raise InputError(
            f"task {task.name!r} has nothing for the split {split!r} at level {level}",
            where="tasks.sample",
            why="its rows, which a hash of each parts, fell into other splits",
            fix=f'give it more rows, or say "split": "{split}" in those that are for it',
        )
    passes, place = divmod(index, len(rows))
    return rows[permutation(f"{task.name}/{split}/{level}/{passes}/{seed}", len(rows))[place]]


@functools.lru_cache(maxsize=64)
def rows_of_split(rows: Callable[[int], Sequence[Draft]], level: int, split: Split) -> tuple[Draft, ...]:
    """The rows of a split, in their order."""
    return tuple(row for row in rows(level) if belongs(row) == split)


@functools.lru_cache(maxsize=64)
def permutation(stream: str, count: int) -> tuple[int, ...]:
    """An order of `count` things, drawn from a named stream."""
    return tuple(random.Random(stream).sample(range(count), count))


def belongs(draft: Draft) -> Split:
    """The split of a draft: the one that its source says, or that of its family."""
    return draft.split or split_of(draft.group or draft.functional_class)


def require(level: int, split: str, name: str) -> None:
    """Refuse what is no level or no split.

    :raises ConfigError: it is none.
    """
    levels = LEVELS if split == "train" else (*LEVELS, *HELD_OUT_LEVELS)
    if level not in levels or split not in OF_SPLIT:
        raise ConfigError(
            f"there is no level {level!r} of split {split!r}",
            where=f"task {name}",
            fix=f"use a level from {levels[0]} to {levels[-1]} and a split of: {', '.join(OF_SPLIT)}",
        )


def sample_draft(generate: Generator, name: str, split: Split, level: int, index: int, seed: int) -> Draft:
    """What a generator drafts as number `index` of a split.

    :param name: keeps its random stream apart from others'.
    :raises ConfigError: level outside 1..10, unknown split.
    :raises InputError: the generator's space at this level is so small that nothing of it fell into the split.
    """
    require(level, split, name)
    rng = random.Random(f"{name}/{split}/{level}/{index}/{seed}")
    for _ in range(ATTEMPTS):
        draft = generate(rng, level)
        if belongs(draft) == split:
            return draft
    raise InputError(
        f"task {name!r} has nothing for the split {split!r} at level {level}",
        where="tasks.sample",
        why=f"{ATTEMPTS} drafts in a row belonged to other splits: the generator's space is too small",
        fix="use a higher level, or give the generator more prompts",
    )


for _module in pkgutil.iter_modules(generators.__path__, f"{generators.__name__}."):
    register(importlib.import_module(_module.name))
for _folder in task_folders():
    add_folder(_folder)
