"""An ended run's events as one object: lines of JSON in gzip, in blocks that can be read by themselves.

zcat events-100000.jsonl.gz      reads it whole: a block is a member of gzip, and members follow each other
blocks [[1, 0], [501, 24211]]    the first event of each and where it begins, kept in the database
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from components.shared.runtime.errors import DamagedObject
from components.shared.runtime.store.folder import FolderStore
from components.shared.runtime.store.local_copy import own_folder
from components.shared.runtime.store.uri import open_store

from .plain_json import plain
from .tables import compaction

BLOCK = 500
"""Events of a block."""

LEVEL = 6
DATA = ',"data":'
"""Before an event's data. Within a text of JSON these characters cannot stand, as its quotes are escaped."""

COPIES = 16
"""So many objects of stores elsewhere are kept on this machine, those read last."""


@dataclass(frozen=True)
class Compacted:
    """What the database knows of such an object.

    :param store: the address at which its store is opened.
    :param last: the number of its last event.
    :param blocks: the first event of each block, and the byte at which it begins.
    :param producers: the ranges of numbers of each producer's events in it.
    """

    run: str
    store: str
    key: str
    bytes: int
    last: int
    blocks: list[list[int]]
    producers: dict[str, list[list[int]]]


async def known(connection: AsyncConnection, run: str) -> Compacted | None:
    """The object that a run's events have become; None where they are rows."""
    row = (await connection.execute(select(compaction).where(compaction.c.run == run))).one_or_none()
    if row is None:
        return None
    return Compacted(row.run, row.store, row.key, row.bytes, row.last_seq, row.blocks, row.producers)


def block(lines: Iterable[str]) -> bytes:
    """A block of these lines. The same lines are the same bytes."""
    return gzip.compress("".join(line + "\n" for line in lines).encode(), LEVEL, mtime=0)


def line_of(head: dict[str, Any], text: str) -> str:
    """The line of an event.

    :param head: all that it is but its data.
    :param text: its data, as JSON. It comes last, so that a reader finds it without parsing it.
    """
    return f"{plain(head)[:-1]}{DATA}{text}}}"


async def read(
    packed: Compacted, after: int, limit: int, channels: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """The next events of the object: their fields, with their data as `text`.

    :raises MissingKey: the object has been removed, or replaced by a longer one.
    :raises DamagedObject: it is not what was written.
    """
    return await asyncio.to_thread(_read, packed, after, limit, channels)


def _read(
    packed: Compacted, after: int, limit: int, channels: Collection[str] | None
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with contextlib.closing(_file(packed).open("rb")) as file:
        for position, (first, start) in enumerate(packed.blocks):
            following = packed.blocks[position + 1] if position + 1 < len(packed.blocks) else None
            if following and following[0] <= after + 1:
                continue
            end = following[1] if following else packed.bytes
            file.seek(start)
            for line in _lines(packed, file.read(end - start), first):
                if line["seq"] > after and (channels is None or line["channel"] in channels):
                    found.append(line)
                    if len(found) == limit:
                        return found
    return found


def _lines(packed: Compacted, block: bytes, first: int) -> list[dict[str, Any]]:
    try:
        lines = [_parsed(line) for line in gzip.decompress(block).decode().split("\n")[:-1]]
        if lines[0]["seq"] != first:
            raise ValueError("another block lies here")
    except (OSError, EOFError, zlib.error, ValueError, IndexError, KeyError) as error:
        raise DamagedObject(
            "the events of an ended run are damaged",
            where=f"{packed.store}/{packed.key}",
            why=str(error),
            fix="put the object back from a copy; the run itself needs none of it",
        ) from error
    return lines


def _parsed(line: str) -> dict[str, Any]:
    head, _, text = line.partition(DATA)
    return {**json.loads(head + "}"), "text": text[:-1]}


def _file(packed: Compacted) -> Path:
    """A file with the object's bytes: itself, where it lies in a folder, else a copy on this machine."""
    store = open_store(packed.store)
    if isinstance(store, FolderStore):
        with contextlib.suppress(FileNotFoundError):
            if (store.root / packed.key).stat().st_size == packed.bytes:
                return store.root / packed.key
        store.sha256(packed.key)  # says what is wrong with it
        raise DamagedObject("the events of an ended run are not whole", where=store.address(packed.key))
    address = hashlib.sha256(f"{packed.store}\n{packed.key}\n{packed.bytes}".encode()).hexdigest()
    folder = own_folder() / "events"
    copy = folder / address
    if not copy.exists():
        folder.mkdir(exist_ok=True)
        for old in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)[: -COPIES + 1]:
            old.unlink(missing_ok=True)
        store.fetch(packed.key, copy)
    return copy
