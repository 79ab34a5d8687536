"""What tasks read beside themselves: names that hold an address, and a digest of what lies there.

    file:PATH   long/needle:PATH   arc:FOLDER   corpus:ADDRESS?options   …

By these digests results are kept: what has changed at the same address is other data, and gives another result.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

from components.shared.runtime.errors import InputError
from components.shared.runtime.store.interface import Store
from components.shared.runtime.store.uri import open_store

from .corpora import CORPUS, corpus_address
from .generators import arc, long, text

PREFIXES = (CORPUS, text.FILE, *long.OVER, *arc.OVER)
"""What the names of tasks over files begin with; what follows is a path or an address."""

GRADER = re.compile(r'"([^"\\\n]+\.py):\w+"')
"""A grader that lies beside a file of questions, as `user_file` takes it."""


class Place(NamedTuple):
    """The parts of a name: `corpus:`, `./wiki`, `?column=body`.

    :param kind: where its files are; those of the hub are known by their revision.
    """

    prefix: str
    path: str
    options: str
    kind: str

    @property
    def whole(self) -> str:
        """The same name with an absolute path; of what lies on another machine as it is."""
        path = str(self.local.resolve()) if self.kind == "folder" else self.path
        return f"{self.prefix}{path}{self.options}"

    @property
    def local(self) -> Path:
        """Where it is on this machine."""
        return Path(self.path).expanduser()


def place_of(name: str) -> Place | None:
    """What a name leads to; None for a generator, which reads nothing.

    :raises ConfigError: it is a corpus with an option that there is not.
    """
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    if not prefix:
        return None
    if prefix == CORPUS:
        path, question, options = name.removeprefix(CORPUS).strip().partition("?")
        return Place(prefix, path, question + options, corpus_address(name).kind)
    path = name.removeprefix(prefix)
    return Place(prefix, path, "", "store" if "://" in path else "folder")


def content_digest(name: str) -> str:
    """A digest of what a task reads, and of graders that lie beside it; empty for what reads nothing, and of the hub.

    A file counts with its bytes, read once for each change; a folder and what lies in a store with the names, sizes and
    times (or tags) of what is in it: a corpus may be far too large to be read for it.

    :raises InputError: there is nothing.
    :raises StoreError: the store cannot be read.
    """
    place = place_of(name)
    if place is None or place.kind == "hub":
        return ""
    if place.kind == "store":
        folder = place.path if place.prefix == CORPUS else place.path.rpartition("/")[0]
        return _listed(open_store(folder))
    if place.local.is_dir():
        return _listed(open_store(str(place.local)))
    return file_digest(place.local)


def file_digest(path: Path) -> str:
    """The digest of a file's bytes, and of those of the graders that its lines name.

    :raises InputError: it cannot be read.
    """
    parts = [_bytes_digest(path, *_stamp(path))]
    if ".jsonl" in path.suffixes:
        graders = [path.parent / file for file in _graders(path, *_stamp(path))]
        parts += [_bytes_digest(grader, *_stamp(grader)) for grader in graders if grader.is_file()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    """What tells that a file has changed.

    :raises InputError: there is no such file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(
            "a data file cannot be read", where=str(path), why=str(error), fix="name a readable file"
        ) from error
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=256)
def _bytes_digest(path: Path, changed: int, size: int) -> str:
    """Of a file as it is at that time and of that size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=256)
def _graders(path: Path, changed: int, size: int) -> list[str]:
    """The files of graders that its lines name."""
    return sorted(set(GRADER.findall(text.content_of(path))))


def _listed(store: Store) -> str:
    entries = [(entry.key, entry.bytes, entry.tag) for entry in store.list()]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
