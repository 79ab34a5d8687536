"""Where chunks go: the store of the run, and the API where one is named. Each has a thread of its own.

A place that hangs holds up nothing but its thread; one that fails is tried again after longer and longer pauses. What it
has not taken waits for it, as long as there is room: a chunk that is nowhere yet is never given up, so while nothing is
taken no new chunks are made, and the spool behind them keeps what matters most. A chunk that a place refuses for what is in
it would be refused again: it is not sent there again, which is said once, and what comes behind it goes on.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote, urlsplit

from ..store.interface import Store
from ..store.uri import open_store
from . import chunks
from .chunks import Chunk
from .progress_object import ProgressObject

EVERY = 5.0
CHUNK_BYTES = 256 << 10
WAITING = 32
"""Chunks that wait for one place."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
API_SECONDS = 4.0
"""For connecting to the API, and for each part of its answer."""

REFUSALS = (400, 413, 422)
"""Statuses that speak of what was sent: the same again would get the same answer."""


class RefusedChunk(Exception):
    """A place will never take this chunk, or some lines of it."""


class Place(Protocol):
    """Somewhere that takes chunks. Whatever it raises means that it has not taken one."""

    def send(self, chunk: Chunk) -> None:
        """Take a chunk; once it is back, the chunk is safe there.

        :raises RefusedChunk: it is of no use to send it again.
        """

    def rest(self, *, closing: bool) -> None:
        """A chunk is taken, or nothing is to be sent for now."""


class StorePlace:
    """The store of the run, which also gets the small object that says how far its task is.

    :param root: the root of the run.
    """

    def __init__(self, root: str, task: str, process: str, newest: ProgressObject) -> None:
        self.root = root
        self.task = task
        self.process = process
        self.newest = newest
        self._store: Store | None = None

    def send(self, chunk: Chunk) -> None:
        """Write the chunk."""
        key = chunks.key(self.task, self.process, chunk.number)
        self._opened().put(f"{chunks.FOLDER}/{key}", chunks.encode(chunk.lines))

    def rest(self, *, closing: bool) -> None:
        """Write the small object, where it is due."""
        if self.newest.due(closing=closing):
            self.newest.put(self._opened())

    def attempts_before(self) -> int:
        """Attempts of this task in pods that are gone."""
        return self.newest.attempts_before(self._opened())

    def _opened(self) -> Store:
        if self._store is None:
            self._store = open_store(self.root)
        return self._store


class ApiPlace:
    """The API's `/events/<run>`.

    :param token: of the run.
    """

    def __init__(self, url: str, token: str, run: str, task: str, process: str) -> None:
        self.address = urlsplit(url)
        self.path = f"{self.address.path.rstrip('/')}/events/{quote(run, safe='')}"
        self.headers = {
            "Authorization": f"Bearer {token}", "Content-Type": "application/json", "User-Agent": "agent-forge-pod",
        }  # fmt: skip
        self.head = {"task": task, "process": process}
        self._connection: http.client.HTTPConnection | None = None

    def send(self, chunk: Chunk) -> None:
        """Post the chunk.

        :raises RefusedChunk: the API says that something in it is wrong.
        :raises OSError: the API is away, or does not take it now.
        """
        body = json.dumps({**self.head, "lines": list(chunk.lines)}, allow_nan=False)
        connection = self._connection = self._connection or self._connected()
        try:
            connection.request("POST", self.path, body.encode(), self.headers)
            answer = connection.getresponse()
            said = answer.read(1 << 16)
        except BaseException:
            self._connection = None
            connection.close()
            raise
        if complaint := _complaint(answer.status, said):
            raise RefusedChunk(f"chunk {chunk.number} ({answer.status}): {complaint}"[:500])
        if answer.status >= 300:
            raise OSError(f"the API answers {answer.status}")

    def rest(self, *, closing: bool) -> None:
        """Nothing to do."""

    def _connected(self) -> http.client.HTTPConnection:
        host, port = self.address.hostname or "", self.address.port
        if self.address.scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=API_SECONDS, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, port, timeout=API_SECONDS)


class Outlet:
    """A place, what waits for it, and the thread that brings it there.

    :param next_chunk: makes the next chunk for all places, where one is due; `closing`: whatever there is.
    :param trouble: is told of the first failure in a row.
    """

    def __init__(
        self,
        name: str,
        place: Place,
        next_chunk: Callable[[bool], bool],
        trouble: Callable[[str], None],
        *,
        every: float = EVERY,
    ) -> None:
        self.name = name
        self.place = place
        self.every = every
        self.backlog: deque[Chunk] = deque()
        self._next_chunk = next_chunk
        self._trouble = trouble
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._failures = 0
        self._refused = False
        self._until = 0.0
        self.thread = threading.Thread(target=self._work, name=f"reporter {name}", daemon=True)

    def hurry(self) -> None:
        """There is much to tell, or something that matters."""
        self._wake.set()

    def close(self) -> None:
        """Tell what is left, once, and end."""
        self._closing.set()
        self._wake.set()

    def give_up(self) -> None:
        """Let go of what is safe elsewhere, where too much waits."""
        while len(self.backlog) > WAITING and self.backlog[0].delivered:
            self.backlog.popleft()

    def _work(self) -> None:
        while True:
            closing = self._closing.is_set()
            self._wake.clear()
            if closing or time.monotonic() >= self._until:
                self._tell(closing=closing)
            if closing:
                return
            if (pause := self._until - time.monotonic()) > 0:
                self._closing.wait(pause)
            elif not self._closing.is_set():
                self._wake.wait(self.every)

    def _tell(self, *, closing: bool) -> None:
        try:
            while self.backlog or self._next_chunk(closing):
                chunk = self.backlog[0]
                try:
                    self.place.send(chunk)
                    chunk.delivered = True
                except RefusedChunk as refusal:
                    self._say_refusal(refusal)
                with contextlib.suppress(ValueError):  # it was given up meanwhile
                    self.backlog.remove(chunk)
                self.place.rest(closing=False)
            self.place.rest(closing=closing)
        except Exception as error:  # whatever a store, a server or a proxy can do must not reach the phase
            self._failures += 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 16))
            self._until = time.monotonic() + pause
            if self._failures == 1:
                self._trouble(f"{self.name}: {type(error).__name__}: {error}")
        else:
            self._failures, self._until = 0, 0.0

    def _say_refusal(self, refusal: RefusedChunk) -> None:
        if not self._refused:
            self._trouble(f"{self.name}: {refusal}; what comes after it is sent")
        self._refused = True


def _complaint(status: int, said: bytes) -> str:
    """What the API says against a chunk, or some of its lines; "" where sending it again may help, or is not needed."""
    try:
        answer = json.loads(said)
    except ValueError:
        answer = None
    words = answer if isinstance(answer, dict) else {}
    if status in REFUSALS:
        return ": ".join(
            ["it is not taken", *(str(words[name]) for name in ("what", "why") if words.get(name))]
        )
    return (
        f"{words['refused']} of its lines are not taken: {words.get('why', '')}"
        if words.get("refused")
        else ""
    )
