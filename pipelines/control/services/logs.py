"""The log of a task, attempt by attempt, from whoever has it: first what was told. The answer says where it is from.

=======  =====================================================================================================
source   is
=======  =====================================================================================================
chunks   what the pods of a run on Kubeflow have told, which is in the log of events
folder   what a run of this machine has written: from the log of events, or its task's log.txt
kfp      `executor-logs`, which KFP's launcher uploads when an attempt has ended; or what KFP's server gives
pod      the pod, as long as it is there
none     nobody has any line
=======  =====================================================================================================

Lines are numbered from 1 in what is asked for. Where each event's lines begin is kept in memory, for the logs that were
read last, so that any page costs what is on it.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import BaseModel
from sqlalchemy import Text, select
from sqlalchemy import cast as as_text

from ..context import Control
from ..errors import not_found
from ..store import events as log
from ..store.log_index import Index, Key
from ..store.tables import compaction, event
from ..store.tables import run as runs
from . import elsewhere_logs

Source = Literal["chunks", "folder", "kfp", "pod", "none"]
Level = Literal["error", "warning", "info", "debug"]

EVENTS = 500
"""So many events are read at a time."""

LEVELS: tuple[tuple[Level, re.Pattern[str]], ...] = (
    ("error", re.compile(r"\b(error|exception|traceback|critical|fatal|out of memory)\b", re.IGNORECASE)),
    ("warning", re.compile(r"\bwarn(ing)?\b", re.IGNORECASE)),
    ("debug", re.compile(r"\bdebug\b", re.IGNORECASE)),
)


class LogLine(BaseModel):
    """A line.

    :param n: its number in what was asked for, from 1.
    :param time: Unix seconds at which it, or the first of those that came with it, was written; None where nobody knows.
    """

    n: int
    text: str
    time: float | None = None
    level: Level = "info"
    attempt: int = 0


class LogPage(BaseModel):
    """A page of a log.

    :param next: `after` of the next page: the number of the last line that was looked at.
    :param more: whether there are lines behind it.
    """

    lines: list[LogLine]
    next: int
    more: bool
    source: Source


async def lines(
    control: Control,
    run: str,
    task: str = "",
    attempt: int = 0,
    after: int = 0,
    limit: int = 1000,
    q: str = "",
    level: str = "",
) -> LogPage:
    """The lines behind number `after`.

    :param task: "" for what is said of the run itself.
    :param attempt: 0 for all.
    :param q: only lines that contain it, in whatever case; `level`: only lines of it.
    :raises Refused: there is no such run: 404.
    """
    async with control.database.read() as connection:
        row = (await connection.execute(select(runs).where(runs.c.id == run))).mappings().first()
    if row is None:
        raise not_found("there is no such run", "run", "GET /phases/runs lists them")
    key = (run, task, attempt)
    index = control.logs.index(key)
    async with index.lock:
        await _grow(control, key, index)
    wanted = Wanted(q.casefold(), level)
    if index.lines or not task:
        told: Source = "chunks" if row["target"] == "kubeflow" else "folder"
        return await _page(control, key, index, after, limit, wanted, told)
    copy = control.logs.copy(key)
    if copy is None:
        copy = await asyncio.to_thread(elsewhere_logs.read, control.settings, row, task, attempt)
        control.logs.keep(key, *copy)
    source, text = copy
    behind = (LogLine(n=n, text=line) for n, line in enumerate(text[after:], after + 1))
    return _filtered(behind, after, limit, wanted, len(text), cast(Source, source))


@dataclass(frozen=True)
class Wanted:
    """Which lines."""

    text: str
    level: str

    def takes(self, line: LogLine) -> bool:
        """Whether it is one of them; its level is known then."""
        line.level = level_of(line.text)
        return (not self.text or self.text in line.text.casefold()) and self.level in ("", line.level)


def level_of(text: str) -> Level:
    """How grave a line is, by its words."""
    return next((level for level, pattern in LEVELS if pattern.search(text)), "info")


async def _grow(control: Control, key: Key, index: Index) -> None:
    """Take in the events that have come since the last look."""
    async with control.database.read() as connection:
        last = await connection.scalar(select(runs.c.last_seq).where(runs.c.id == key[0])) or 0
    while index.last < last:
        found = await _events(control, key, index.last, EVENTS)
        for one in found:
            index.seqs.append(one.seq)
            index.starts.append(index.lines)
            index.lines += len(json.loads(one.text).get("lines") or ())
        index.last = found[-1].seq if len(found) == EVENTS else last


async def _events(control: Control, key: Key, after: int, limit: int) -> Sequence[log.Event]:
    """The next events of a log."""
    run, task, attempt = key
    async with control.database.read() as connection:
        packed = await connection.scalar(select(compaction.c.last_seq).where(compaction.c.run == run)) or 0
        if packed <= after:
            own = event.c
            query = (
                select(own.seq, own.time, own.channel, own.task, own.attempt, own.producer, own.n, as_text(own.data, Text))
                .where(own.run == run, own.channel == "logs", own.task == task, own.seq > after)
                .order_by(own.seq)
                .limit(limit)
            )  # fmt: skip
            if attempt:
                query = query.where(own.attempt == attempt)
            return [log.Event(run, *row) for row in await connection.execute(query)]
    found: list[log.Event] = []
    while len(found) < limit:
        page = await log.page(control.database, run, after, log.PAGE, {"logs"})
        found += [one for one in page if one.task == task and attempt in (0, one.attempt)]
        if len(page) < log.PAGE:
            break
        after = page[-1].seq
    return found[:limit]


async def _page(
    control: Control, key: Key, index: Index, after: int, limit: int, wanted: Wanted, source: Source
) -> LogPage:
    lines: list[LogLine] = []
    place = max(0, bisect.bisect_right(index.starts, after) - 1)
    at = after
    while place < len(index.seqs) and len(lines) < limit:
        found = await _events(
            control, key, index.seqs[place] - 1, EVENTS if wanted.text or wanted.level else 50
        )
        found = [one for one in found if one.seq <= index.seqs[-1]]
        if not found:
            break
        behind = _numbered(found, index.starts[place], at)
        page = _filtered(behind, at, limit - len(lines), wanted, index.lines, source)
        lines += page.lines
        place += len(found)
        end = index.starts[place] if place < len(index.starts) else index.lines
        at = page.next if len(lines) >= limit else max(after, end)
    return LogPage(lines=lines, next=at, more=at < index.lines, source=source)


def _numbered(found: Sequence[log.Event], start: int, after: int) -> Iterator[LogLine]:
    for one in found:
        for text in one.data.get("lines") or ():
            start += 1
            if start > after:
                yield LogLine(n=start, text=str(text), time=one.time, attempt=one.attempt)


def _filtered(
    behind: Iterator[LogLine], after: int, limit: int, wanted: Wanted, total: int, source: Source
) -> LogPage:
    """The first lines of those that are wanted."""
    lines: list[LogLine] = []
    at = after
    for line in behind:
        if len(lines) >= limit:
            break
        at = line.n
        if wanted.takes(line):
            lines.append(line)
    return LogPage(lines=lines, next=at, more=at < total, source=source)
