"""The log of a run's events, `events.jsonl`: one process writes it, any number read it, from any id on, at their own pace.

The file is the only queue. A reader that is slow falls behind and catches up; one that comes late begins at id 0 and
sees the whole run; one that dies goes on behind the last id that it has dealt with. None of them is known to the
writer, so none can hold the run up. What a killed writer left of a last line is no event: readers wait for its end,
and the next writer cuts it off.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from components.shared.runtime.errors import InputError

from .events import Data, Event, Failure, LogLines, Metrics, Progress, RunEvent, decode, encode, event_of
from .folder import ENDED, RunFolder

ID = re.compile(rb'\{"id":\s*(\d{1,18})\D')
"""How a line begins: readers pass over what they have had without parsing the rest."""

POLL_SECONDS = 0.25
BLOCK = 1 << 16
UNWRITTEN = 10_000
"""So many events wait for a disk that is full; beyond, those of progress, metrics and logs are lost."""


class EventLog:
    """The writer. Whoever holds the run's lock is the only one.

    :param path: of the file; it is made by the first event.
    :param run: the run's name, which every event carries.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end, self.last_id = _whole_end(self._file)
        os.ftruncate(self._file, self._end)
        self._unwritten: deque[bytes] = deque()
        self.news = threading.Condition()

    def append(self, data: Data, *, task: str = "", attempt: int = 0, at: float | None = None) -> int:
        """Write an event; its id. Readers see it when this returns, but on a full disk, which is tried again later.

        :param at: Unix seconds at which it happened; now, where it is not said.
        """
        with self.news:
            if len(self._unwritten) >= UNWRITTEN and isinstance(data, Progress | Metrics | LogLines):
                return self.last_id
            moment = time.time() if at is None else at
            event = event_of(data, id=self.last_id + 1, time=moment, run=self.run, task=task, attempt=attempt)
            self._unwritten.append(encode(event))
            self.last_id = event.id
            self._write()
            self.news.notify_all()
            return event.id

    @property
    def written_id(self) -> int:
        """The id of the last event that readers can see."""
        return self.last_id - len(self._unwritten)

    def say(self, text: str, *, task: str = "", attempt: int = 0) -> None:
        """What the runner has to tell the person who watches, in its own words."""
        self.append(LogLines(text.splitlines(), "runner"), task=task, attempt=attempt)

    def close(self) -> None:
        """No more events. What is written survives a crash of the machine from here on."""
        with self.news:
            if self._file < 0:
                return
            self._write()
            with contextlib.suppress(OSError):  # the run has ended, whatever has become of the disk
                os.fsync(self._file)
            os.close(self._file)
            self._file = -1
            self.news.notify_all()

    def _write(self) -> None:
        while self._unwritten:
            line = self._unwritten[0]
            try:
                written = os.pwrite(self._file, line, self._end)
            except OSError:
                return
            if written < len(line):  # the disk became full within the line
                return
            self._end += len(line)
            self._unwritten.popleft()


class EventReader:
    """Reads a log from an id on, and goes on from there at each call.

    :param after: the id of the last event that is known already; 0 for all.
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        self.path = path
        self.after = after
        self._at = 0

    def read(self, limit: int = 1000) -> list[Event]:
        """The next events, at most `limit`; none when there are no new ones, or no log yet.

        :raises InputError: the log is not the one that was read before: it has become shorter.
        """
        events: list[Event] = []
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            if self._at:
                raise self._replaced() from None
            return events
        with file:
            if os.fstat(file.fileno()).st_size < self._at:
                raise self._replaced()
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n") or len(events) >= limit:
                    break
                self._at += len(line)
                number = ID.match(line)
                if number and int(number[1]) > self.after:
                    event = decode(line)
                    if event is not None:
                        events.append(event)
                    elif not _is_json(
                        line
                    ):  # damaged; what is whole, of a kind that is not known here, counts
                        continue
                    self.after = int(number[1])
        return events

    def _replaced(self) -> InputError:
        return InputError(
            "the log of events is not the one that was read before",
            where=str(self.path),
            why="it has become shorter",
            fix="read it again from id 0",
        )


def follow(folder: RunFolder, after: int = 0, *, until: Callable[[], bool] | None = None) -> Iterator[Event]:
    """The events of a run, those that are there and those that come, until it has ended or nobody is at it any more.

    :param after: the id of the last event that is known already.
    :param until: asked again and again; True ends the following.
    """
    reader = EventReader(folder.events, after)
    ended = False
    while True:
        alive = folder.active() and not (
            until and until()
        )  # before reading: what was written by then is read
        events = reader.read()
        for event in events:
            if isinstance(event, RunEvent):
                ended = event.data.status in ENDED
            yield event
        if not events:
            if ended or not alive:
                return
            time.sleep(POLL_SECONDS)


class Listening:
    """A function that is called with each event, in a thread of its own, as fast as it can and never faster.

    One that raises is not called again, and the log says so; the run goes on.
    """

    def __init__(self, log: EventLog, listener: Callable[[Event], None], after: int) -> None:
        self.log = log
        self.listener = listener
        self.reader = EventReader(log.path, after)
        self.handled = after
        self.over = False
        self.thread = threading.Thread(target=self._listen, name="events", daemon=True)
        self.thread.start()

    def finish(self, seconds: float) -> bool:
        """Wait until it has been called with all events so far. False when it takes longer, or has failed.

        A thread that does not come back is left alone, and ends with this process.
        """
        self.over = True
        with self.log.news:
            last = self.log.written_id
            self.log.news.notify_all()
        self.thread.join(seconds)
        return self.handled >= last

    def _listen(self) -> None:
        while True:
            over = self.over  # before reading: what was written by then is read
            events = self.reader.read()
            for event in events:
                try:
                    self.listener(event)
                except Exception as error:
                    name = getattr(self.listener, "__qualname__", type(self.listener).__name__)
                    self.log.append(Failure(f"listener {name} has failed", why=f"{error!r:.500}"))
                    return
                self.handled = event.id
            if events:
                continue
            if over:
                return
            with self.log.news:
                if not self.over and self.reader.after >= self.log.written_id:
                    self.log.news.wait(POLL_SECONDS)


def _is_json(line: bytes) -> bool:
    """Whether a line is whole; one of a kind that is not known here is."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _whole_end(file: int) -> tuple[int, int]:
    """Where the last whole event of the file ends, and its id; (0, 0) where there is none."""
    at = size = os.fstat(file).st_size
    tail = b""
    while at > 0:
        at = max(0, at - BLOCK)
        tail = os.pread(file, size - at, at)
        end = tail.rfind(b"\n") + 1
        while end:
            begin = tail.rfind(b"\n", 0, end - 1) + 1
            if (begin or not at) and (number := ID.match(tail[begin:end])) and _is_json(tail[begin:end]):
                return at + end, int(number[1])
            end = begin
    return 0, 0
