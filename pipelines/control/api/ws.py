"""WebSockets: the events of many runs over one connection, each with a cursor that the client keeps.

===========================================================  ==========================================================
the client says                                              and gets
===========================================================  ==========================================================
(it connects)                                                {"type": "hello", log, client}
{"subscribe": {run: after, …}, "channels": […], "log": "…"}  {"type": "events", run, events, last, head}, and again;
                                                             {"type": "caught_up", run, last} when nothing follows yet;
                                                             {"type": "gone", run, log} where the cursor means nothing
{"subscribe": {"*": 0}}                                      {"type": "runs"} when a run has come, gone or changed
{"unsubscribe": [run, …]}
(nothing for a while)                                        {"type": "ping", as_of}: when the database last answered
(too much, or what is no message)                            {"type": "closing", why}
===========================================================  ==========================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Path, WebSocket
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from components.shared.runtime.errors import StoreError

from ..auth.guard import Asker, right
from ..server import READ_SECONDS
from ..services.feed import RING_EVENTS, Feed, Gone
from ..services.feeds import Feeds
from ..store.events import Channel
from ..store.plain_json import plain
from .app import Fed

router = APIRouter(tags=["events"])

PROTOCOL = "forge.v1"
MAX_RUNS = 100
MESSAGES = 120
"""So many at once, and as many a minute."""

PING_SECONDS = 20.0
AGAIN_SECONDS = 1.0
"""Where the database does not answer, it is asked again."""

LAST_WORD_SECONDS = 1.0

LIST = "*"
POLICY, LATER = 1008, 1013


class Said(BaseModel):
    """A client's message."""

    model_config = ConfigDict(extra="forbid")

    subscribe: dict[Annotated[str, Field(pattern=r"^[^\x00]*$")], int] = Field(
        default_factory=dict, max_length=MAX_RUNS + 1
    )
    unsubscribe: list[str] = Field(default_factory=list, max_length=MAX_RUNS + 1)
    channels: list[Channel] | None = None
    log: str = ""


class Closing(Exception):
    """The connection is ended by us."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


@dataclass(eq=False)
class Subscription:
    """A run that a client watches.

    :param after: its cursor.
    :param live: it has been told that nothing follows.
    """

    after: int
    channels: frozenset[str] | None
    feed: Feed | None = None
    live: bool = False


@dataclass
class Client:
    """A connection: what it watches, and nothing that waits for it."""

    socket: WebSocket
    feeds: Feeds
    name: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    watched: dict[str, Subscription] = field(default_factory=dict)
    allowance: float = MESSAGES
    heard: float = field(default_factory=time.monotonic)
    patience: float = 0.0

    async def serve(self, ended: asyncio.Event) -> None:
        """Until one of both goes, or the credential that it came with.

        :raises Closing: it is ended by us.
        """
        await self.send(plain({"type": "hello", "log": self.feeds.control.log, "client": self.name}))
        tasks = [asyncio.create_task(work) for work in (self._hear(), self._tell(), _end(ended))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for run in list(self.watched):
                self._leave(run)

    async def send(self, text: str) -> None:
        """Send a message.

        :raises Closing: it has not been taken for a minute.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self.socket.send_text(text)
        except TimeoutError:
            raise Closing(LATER, f"nothing has been read for {READ_SECONDS:.0f} s: resume later") from None

    async def _hear(self) -> None:
        while True:
            try:
                text = await self.socket.receive_text()
            except KeyError:  # bytes
                text = ""
            now = time.monotonic()
            self.allowance = min(MESSAGES, self.allowance + (now - self.heard) * MESSAGES / 60)
            self.heard = now
            if self.allowance < 1:
                raise Closing(POLICY, f"at most {MESSAGES} messages a minute")
            self.allowance -= 1
            try:
                said = Said.model_validate_json(text)
            except ValidationError:
                raise Closing(
                    POLICY, "this is no message: {subscribe: {run: after}} or {unsubscribe: [run]}"
                ) from None
            await self._do(said)

    async def _do(self, said: Said) -> None:
        for run in said.unsubscribe:
            self._leave(run)
        channels = frozenset[str](said.channels) if said.channels else None
        for run, after in said.subscribe.items():
            self._leave(run)
            if said.log and said.log != self.feeds.control.log and run != LIST:
                await self._say_gone(run)
                continue
            if len(self.watched) >= MAX_RUNS:
                raise Closing(POLICY, f"at most {MAX_RUNS} runs at once")
            self.watched[run] = Subscription(max(after, 0), channels)
            if run == LIST:
                self.watched[run].after = self.feeds.list_version
                self.feeds.list_readers.add(self.wake)
        self.wake.set()

    def _leave(self, run: str, subscription: Subscription | None = None) -> None:
        """Watch a run no longer.

        :param subscription: only where it is still this one.
        """
        if subscription not in (None, self.watched.get(run)):
            return
        left = self.watched.pop(run, None)
        if left and left.feed:
            left.feed.readers.discard(self.wake)
        if run == LIST:
            self.feeds.list_readers.discard(self.wake)

    async def _tell(self) -> None:
        while True:
            self.wake.clear()
            self.patience = PING_SECONDS
            said = False
            for run, subscription in list(self.watched.items()):
                if self.watched.get(run) is subscription:
                    said |= await (self._say_list if run == LIST else self._say_next)(run, subscription)
            if said:
                continue  # a batch of each run in turn
            try:
                async with asyncio.timeout(self.patience):
                    await self.wake.wait()
            except TimeoutError:
                if self.patience == PING_SECONDS:
                    await self.send(plain({"type": "ping", "as_of": self.feeds.as_of}))

    async def _say_next(self, run: str, subscription: Subscription) -> bool:
        """Say what follows in a run; whether more may."""
        try:
            if subscription.feed is None:
                feed = await self.feeds.of(run)
                if self.watched.get(run) is not subscription:
                    return True
                subscription.feed = feed
                feed.readers.add(self.wake)
            batch = await subscription.feed.after(subscription.after, subscription.channels)
        except Gone:
            self._leave(run, subscription)
            await self._say_gone(run)
            return True
        except StoreError:
            self.patience = AGAIN_SECONDS
            return False
        if self.watched.get(run) is not subscription:
            return True
        if batch is None:
            if not subscription.live:
                subscription.live = True
                await self.send(plain({"type": "caught_up", "run": run, "last": subscription.after}))
            return False
        subscription.after = batch.last
        if subscription.feed.last - batch.last > RING_EVENTS:
            subscription.live = False
        if batch.events:
            head = f'"run":{plain(run)},"last":{batch.last},"head":{subscription.feed.last}'
            await self.send(f'{{"type":"events",{head},"events":[{batch.text}]}}')
        return True

    async def _say_list(self, run: str, subscription: Subscription) -> bool:
        if subscription.after != self.feeds.list_version:
            subscription.after = self.feeds.list_version
            await self.send('{"type":"runs"}')
        return False

    async def _say_gone(self, run: str) -> None:
        await self.send(plain({"type": "gone", "run": run, "log": self.feeds.control.log}))


async def _end(ended: asyncio.Event) -> None:
    await ended.wait()
    raise Closing(POLICY, "the key or the session has ended: sign in again")


@router.websocket("/ws/{client_id}", dependencies=[right("events", "read")])
async def websocket(
    socket: WebSocket, client_id: Annotated[str, Path(pattern=r"^[\w.:-]{1,100}$")], feeds: Fed, who: Asker
) -> None:
    """The events of the runs that a client subscribes to."""
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in socket.scope["subprotocols"] else None)
    client = Client(socket, feeds, client_id)
    with contextlib.suppress(WebSocketDisconnect), feeds.control.watch.held(who) as ended:
        try:
            await client.serve(ended)
        except Closing as closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_SECONDS):
                    await socket.send_text(plain({"type": "closing", "why": closing.why}))
            await socket.close(closing.code, closing.why)
