"""A run's events over HTTP: asked for again and again (long poll), or as a stream (`text/event-stream`)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from starlette.types import Send
from typing_extensions import override

from components.shared.runtime.errors import InputError, StoreError

from ..auth.guard import Asker, right
from ..auth.rights import Principal
from ..errors import Refused, not_found
from ..server import READ_SECONDS
from ..services.feed import RING_EVENTS, Feed, Gone
from ..services.feeds import Feeds
from ..store.events import CHANNELS
from .app import Fed

router = APIRouter(tags=["events"])

HEARTBEAT_SECONDS = 15.0
LOOK_SECONDS = 1.0
"""So often a stream looks whether its reader's credential still holds."""

LONGEST_WAIT = 30.0


class EventOut(BaseModel):
    """An event.

    :param seq: 1, 2, 3 … in its run, without a gap.
    :param data: `{"kind": run, task, progress, metric, log or error, …}`.
    """

    run: str
    seq: int
    time: float
    channel: str
    task: str
    attempt: int
    data: dict[str, Any]


class EventsPage(BaseModel):
    """What follows a cursor.

    :param log: the log that the cursor belongs to: send it along with `after`.
    :param last: the cursor from which to go on.
    :param caught_up: nothing follows yet.
    :param state: of the run.
    """

    log: str
    run: str
    events: list[EventOut]
    last: int
    caught_up: bool
    state: str


def channels_of(text: str) -> frozenset[str] | None:
    """The channels that are asked for; None for all.

    :raises InputError: one is not known.
    """
    asked = frozenset(filter(None, (part.strip() for part in text.split(","))))
    if unknown := asked - set(CHANNELS):
        raise InputError(
            "there is no such channel",
            where="channels",
            why=f"{len(unknown)} of them",
            fix=", ".join(CHANNELS),
        )
    return asked or None


@router.get(
    "/phases/runs/{run}/events",
    dependencies=[right("events", "read")],
    response_model=EventsPage,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        410: {"description": "The cursor belongs to another log: begin at 0."},
    },
)
async def events(
    run: str,
    feeds: Fed,
    who: Asker,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT)] = 0.0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    channels: Annotated[str, Query(max_length=200)] = "",
    log: Annotated[str, Query(max_length=64)] = "",
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header(max_length=100)] = "",
) -> Response:
    """What follows the cursor `after`; with `Accept: text/event-stream` for as long as the client stays.

    :param wait: so many seconds for the next event, where none follows yet.
    :param log: the log that the cursor belongs to.
    """
    wanted = channels_of(channels)
    if last_event_id:
        log, _, seq = last_event_id.rpartition(":")
        if not seq.isascii() or not seq.isdigit() or len(seq) > 15:
            raise InputError("this is no event's id", where="Last-Event-ID", fix="<log>:<number>")
        after = int(seq)
    if log and log != feeds.control.log:
        raise _gone(run)
    try:
        feed = await feeds.of(run)
    except Gone:
        raise not_found("there is no such run", run) from None
    if "text/event-stream" in accept:
        await _next(feed, after, wanted, 0.0)  # refused before the stream begins, where it has to be
        return Stream(
            _stream(feeds, feed, after, wanted, who), media_type="text/event-stream", headers=NOT_KEPT
        )
    return await _page(feeds, feed, after, wanted, wait, limit)


NOT_KEPT = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Stream(StreamingResponse):
    """A stream that ends when its reader has taken nothing for a while; it comes back with the id of the last event."""

    @override
    async def stream_response(self, send: Send) -> None:
        async def in_time(message: Any) -> None:
            async with asyncio.timeout(READ_SECONDS):
                await send(message)

        with contextlib.suppress(TimeoutError):
            await super().stream_response(in_time)


async def _page(
    feeds: Feeds, feed: Feed, after: int, wanted: frozenset[str] | None, wait: float, limit: int
) -> Response:
    texts: list[str] = []
    count, cursor, until = 0, after, time.monotonic() + wait
    while count < limit:
        cursor, found = await _next(feed, cursor, wanted, 0.0 if texts else until - time.monotonic())
        if not found:
            break
        for seq, text in found:
            if count == limit:
                break
            texts.append(text)
            count, cursor = count + 1, seq
    state = "true" if cursor >= feed.last else "false"
    head = EventsPage(
        log=feeds.control.log, run=feed.run, events=[], last=cursor, caught_up=False, state=feed.state
    ).model_dump_json(exclude={"events", "caught_up"})
    body = f'{head[:-1]},"caught_up":{state},"events":[{",".join(texts)}]}}'
    return Response(body.encode(), media_type="application/json", headers=NOT_KEPT)


async def _next(
    feed: Feed, cursor: int, wanted: frozenset[str] | None, seconds: float
) -> tuple[int, list[tuple[int, str]]]:
    """The next wanted events and the cursor behind them; none after so many seconds."""
    wake = asyncio.Event()
    until = time.monotonic() + seconds
    with feed.reading(wake):
        while True:
            wake.clear()
            try:
                batch = await feed.after(cursor, wanted)
            except Gone:
                raise _gone(feed.run) from None
            if batch is not None:
                cursor = batch.last
                if batch.events:
                    return cursor, [(event.seq, event.wire) for event in batch.events]
                continue
            try:
                async with asyncio.timeout(max(until - time.monotonic(), 0)):
                    await wake.wait()
            except TimeoutError:
                return cursor, []


async def _stream(
    feeds: Feeds, feed: Feed, cursor: int, wanted: frozenset[str] | None, who: Principal
) -> AsyncIterator[bytes]:
    """The lines of `text/event-stream`: events, `caught_up` whenever the end is reached, `gone` at the end of all."""
    live = False
    name = feeds.control.log
    spoken = time.monotonic()
    yield b"retry: 1000\n\n"
    with feeds.control.watch.held(who) as ended:
        while not ended.is_set():
            try:
                cursor, found = await _next(feed, cursor, wanted, LOOK_SECONDS if live else 0.0)
            except Refused:
                yield b"event: gone\ndata: {}\n\n"
                return
            except StoreError:  # it stays as it is until the database answers again
                await asyncio.sleep(LOOK_SECONDS)
                continue
            text = "".join(f"id: {name}:{seq}\ndata: {event}\n\n" for seq, event in found)
            if cursor < feed.last - RING_EVENTS:
                live = False
            elif not live and cursor >= feed.last:
                live = True
                text += f'event: caught_up\nid: {name}:{cursor}\ndata: {{"last":{cursor}}}\n\n'
            if not text and time.monotonic() - spoken > HEARTBEAT_SECONDS:
                text = ": still here\n\n"
            if text:
                spoken = time.monotonic()
                yield text.encode()


def _gone(run: str) -> Refused:
    return Refused(
        410,
        "the cursor belongs to another log of events",
        where=run,
        why="the run or the whole database has been removed or restored",
        fix="begin again: after=0, without log",
    )
