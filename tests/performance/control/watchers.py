"""Clients that watch runs over WebSockets from a process of their own, and count what reaches them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import random
import time
from array import array
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

PATIENCE = 15.0
"""A socket that is silent for so long is given up: the server speaks every 20 s at least, and more often here."""


@dataclass
class Counts:
    """What has come.

    :param late: seconds from the emission to the client, of each event.
    :param gaps: events that did not come before one with a higher number.
    """

    deliveries: int = 0
    doubled: int = 0
    gaps: int = 0
    reconnects: int = 0
    gone: int = 0
    late: array[float] = field(default_factory=lambda: array("f"))


class Watchers:
    """Clients in one process, from the outside.

    :param runs: run → how many watch it.
    """

    def __init__(self, urls: list[str], headers: dict[str, str], runs: dict[str, int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_main, args=(theirs, urls, headers, runs), daemon=True)
        self.process.start()

    def ask(self, *question: Any) -> Any:
        """One of `connected`, `reset`, `until last seconds`, `end`."""
        self._pipe.send(question)
        return self._pipe.recv()


class Client:
    """One socket that comes back whenever it is lost, to whichever replica."""

    def __init__(
        self, run: str, urls: list[str], headers: dict[str, str], counts: Counts, first: int
    ) -> None:
        self.run = run
        self.urls = urls
        self.headers = headers
        self.counts = counts
        self.last = 0
        self.live = False
        self._next = first

    async def watch(self) -> None:
        while True:
            url = self.urls[self._next % len(self.urls)].replace("http", "ws")
            try:
                async with connect(
                    f"{url}/ws/load", additional_headers=self.headers, compression=None, ping_interval=None,
                    open_timeout=60,
                ) as socket:  # fmt: skip
                    await socket.send(json.dumps({"subscribe": {self.run: self.last}}))
                    while True:
                        self._take(json.loads(await asyncio.wait_for(socket.recv(), 60)))
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError, EOFError):
                self.live = False
                self.counts.reconnects += 1
                await asyncio.sleep(random.uniform(0.1, 1.0))
                self._next = random.randrange(len(self.urls))

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "caught_up":
            self.live = True
        elif kind == "gone":
            self.counts.gone += 1
        elif kind == "events":
            now = time.time()
            for event in message["events"]:
                seq = event["seq"]
                if seq <= self.last:
                    self.counts.doubled += 1
                    continue
                self.counts.gaps += seq - self.last - 1
                self.last = seq
                self.counts.deliveries += 1
                self.counts.late.append(now - event["time"])


def _main(pipe: Connection, urls: list[str], headers: dict[str, str], runs: dict[str, int]) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve(pipe, urls, headers, runs))


async def _serve(pipe: Connection, urls: list[str], headers: dict[str, str], runs: dict[str, int]) -> None:
    counts = Counts()
    clients: list[Client] = []
    tasks = []
    for run, count in runs.items():
        for _ in range(count):
            clients.append(Client(run, urls, headers, counts, len(clients)))
            tasks.append(asyncio.create_task(clients[-1].watch()))
            if len(clients) % 20 == 0:
                await asyncio.sleep(0.05)
    while True:
        question, *rest = await asyncio.to_thread(pipe.recv)
        if question == "connected":
            while not all(client.live for client in clients):
                await asyncio.sleep(0.1)
            pipe.send(len(clients))
        elif question == "reset":
            counts.deliveries, counts.late, counts.reconnects = 0, array("f"), 0
            pipe.send(None)
        elif question == "until":
            last, seconds = rest
            end = time.monotonic() + seconds
            while time.monotonic() < end and any(client.last < last[client.run] for client in clients):
                await asyncio.sleep(0.1)
            lost = sum(max(last[client.run] - client.last, 0) for client in clients)
            pipe.send((counts, lost))
        elif question == "end":
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            pipe.send(None)
            return
