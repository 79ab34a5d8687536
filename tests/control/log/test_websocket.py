"""The events over WebSockets: each once and in order, however often a client comes back, and whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random

import pytest
from sqlalchemy import delete, update
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipelines.control import server
from pipelines.control.api import ws
from pipelines.control.services import feed
from pipelines.control.settings import ControlSettings
from pipelines.control.store.database import now
from pipelines.control.store.events import page
from pipelines.control.store.tables import api_key, event, log, run
from tests.control.log.conftest import SECONDS, Served, numbers, said, serving, subscribe
from tests.control.log.made import line, lines, make_run, write


async def record(served: Served, name: str, events: list[object]) -> None:
    """Write events as everybody does: then wake."""
    await write(served.control.database, name, events)  # type: ignore[arg-type]
    await served.control.bus.wake(name)


async def test_what_was_before_and_what_comes_is_read_in_one_go(served: Served) -> None:
    await make_run(served.control.database)
    await record(served, "demo", lines(range(1, 6)))
    async with served.socket() as socket:
        await subscribe(socket, {"demo": 2})
        assert await numbers(socket, 5) == [3, 4, 5]
        assert await said(socket) == {"type": "caught_up", "run": "demo", "last": 5}
        await record(served, "demo", lines([6]))
        message = await said(socket)
        assert message["events"] == [json.loads((await page(served.control.database, "demo", 5))[0].wire)]


async def test_a_client_that_comes_back_again_and_again_sees_each_event_once_and_in_order(
    served: Served,
) -> None:
    chance = random.Random(5)
    await make_run(served.control.database)

    async def produce() -> None:
        for n in range(1, 401, 4):
            await record(served, "demo", lines(range(n, n + 4)))
            await asyncio.sleep(0.002)

    producing = asyncio.create_task(produce())
    found: list[int] = []
    while len(found) < 400:
        async with served.socket() as socket:
            await subscribe(socket, {"demo": len(found)})
            for _ in range(chance.randint(1, 12)):
                message = await said(socket)
                if message["type"] == "events":
                    found += [each["seq"] for each in message["events"]]
                if len(found) >= 400:
                    break
    await producing
    assert found == list(range(1, 401))


async def test_two_replicas_tell_a_client_that_moves_between_them_the_same(
    settings: ControlSettings, redis: str
) -> None:
    shared = settings.model_copy(update={"redis_url": redis})
    async with serving(shared) as one, serving(shared) as other:
        await make_run(one.control.database)
        found: list[int] = []
        for round_ in range(6):
            writer, reader = (one, other) if round_ % 2 else (other, one)
            await record(writer, "demo", lines(range(round_ * 10 + 1, round_ * 10 + 11)))
            async with reader.socket() as socket:
                await subscribe(socket, {"demo": len(found)})
                found += await numbers(socket, round_ * 10 + 10)
        assert found == list(range(1, 61))


async def test_events_of_which_no_bus_tells_come_with_the_poll(served: Served) -> None:
    await make_run(served.control.database)
    async with served.socket() as socket:
        await subscribe(socket, {"demo": 0})
        assert (await said(socket))["type"] == "caught_up"
        await write(served.control.database, "demo", lines([1, 2]))
        assert await numbers(socket, 2) == [1, 2]


async def test_only_the_channels_that_are_asked_for_come(served: Served) -> None:
    await make_run(served.control.database)
    await record(
        served, "demo", [line(n, channel="errors" if n % 700 == 0 else "logs") for n in range(1, 2101)]
    )
    async with served.socket() as socket:
        await subscribe(socket, {"demo": 0}, channels=["errors"])
        assert await numbers(socket, 2100) == [700, 1400, 2100]


async def test_many_runs_share_a_connection_and_can_be_left(served: Served) -> None:
    for name in ("a", "b"):
        await make_run(served.control.database, name)
        await record(served, name, lines([1]))
    async with served.socket() as socket:
        await subscribe(socket, {"a": 0, "b": 0})
        heard = [await said(socket) for _ in range(4)]
        assert {(message["type"], message["run"]) for message in heard} == {
            (kind, name) for kind in ("events", "caught_up") for name in ("a", "b")
        }
        await socket.send(json.dumps({"unsubscribe": ["a"]}))
        await record(served, "a", lines([2]))
        await record(served, "b", lines([2]))
        assert (await said(socket))["run"] == "b"


async def test_the_list_of_runs_says_that_it_has_changed(served: Served) -> None:
    async with served.socket() as socket:
        await subscribe(socket, {"*": 0})
        await make_run(served.control.database)
        await served.control.bus.wake("")
        assert await said(socket) == {"type": "runs"}


@pytest.mark.parametrize("how", ["other log", "deleted", "shorter", "ahead", "never there"])
async def test_a_cursor_that_means_nothing_any_more_is_told_so(served: Served, how: str) -> None:
    database = served.control.database
    if how != "never there":
        await make_run(database)
        await record(served, "demo", lines([1, 2, 3]))
    async with served.socket() as socket:
        await subscribe(socket, {"demo": 50 if how == "ahead" else 0})
        if how in ("other log", "deleted", "shorter"):
            await numbers(socket, 3)
            assert (await said(socket))["type"] == "caught_up"
            async with database.write() as connection:
                if how == "other log":
                    await connection.execute(delete(log))
                elif how == "deleted":
                    await connection.execute(delete(run))
                else:
                    await connection.execute(delete(event).where(event.c.seq == 3))
                    await connection.execute(update(run).values(last_seq=2))
        old = served.control.log
        gone = await said(socket)
        assert gone == {"type": "gone", "run": "demo", "log": served.control.log}
        assert (gone["log"] != old) == (how == "other log")


async def test_a_cursor_of_another_log_is_refused_where_the_log_is_said(served: Served) -> None:
    await make_run(served.control.database)
    async with served.socket() as socket:
        await subscribe(socket, {"demo": 0}, log="0123")
        assert (await said(socket))["type"] == "gone"


async def test_a_database_that_was_emptied_starts_anew_under_the_same_names(served: Served) -> None:
    database = served.control.database
    await make_run(database)
    await record(served, "demo", lines([1, 2, 3]))
    async with served.socket() as socket:
        await subscribe(socket, {"demo": 0})
        await numbers(socket, 3)
        async with database.write() as connection:
            for table in (event, run, log):
                await connection.execute(delete(table))
        await make_run(database)
        await write(database, "demo", [line(n, text="another") for n in range(1, 10)])
        while (message := await said(socket))["type"] != "gone":
            pass
        await subscribe(socket, {"demo": 0}, log=message["log"])
        message = await said(socket)
        assert [each["data"]["lines"] for each in message["events"]] == [["another"]] * 9


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("[1, 2", "no message"),
        ('{"subscribe": {"demo": "no"}}', "no message"),
        (r'{"subscribe": {"de\u0000mo": 0}}', "no message"),
        (b"\xff", "no message"),
        (json.dumps({"subscribe": {f"run-{n}": 0 for n in range(101)}}), "at most 100 runs"),
    ],
)
async def test_what_is_no_message_ends_the_connection_and_says_why(
    served: Served, message: str | bytes, why: str
) -> None:
    async with served.socket() as socket:
        await socket.send(message)
        while (last := await said(socket))["type"] == "gone":
            pass
        assert last["type"] == "closing" and why in last["why"]
        with pytest.raises(ConnectionClosed):
            await said(socket)


async def test_a_message_that_is_too_large_ends_the_connection(served: Served) -> None:
    async with served.socket() as socket:
        await socket.send("x" * (server.FRAME_BYTES + 1))
        with pytest.raises(ConnectionClosed, match="1009"):
            await said(socket)


async def test_a_key_that_is_revoked_ends_what_it_has_opened(served: Served) -> None:
    async with served.socket() as socket:
        async with served.control.database.write() as connection:
            await connection.execute(update(api_key).values(revoked=now()))
        assert "sign in again" in (await said(socket))["why"]
        with pytest.raises(ConnectionClosed, match="1008"):
            await said(socket)
    with pytest.raises(InvalidStatus) as refused:
        async with served.socket():
            pass
    assert refused.value.response.status_code == 401


async def test_nobody_who_is_not_known_and_no_foreign_page_gets_in(served: Served) -> None:
    for headers, status in (({}, 401), ({**served.headers, "Origin": "https://evil.example"}, 403)):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"{served.url.replace('http', 'ws')}/ws/x", additional_headers=headers):
                pass
        assert refused.value.response.status_code == status
        assert b'"what"' in (refused.value.response.body or b"")


async def test_a_browser_gets_the_protocol_that_it_asks_for(served: Served) -> None:
    async with served.socket(subprotocols=["forge.v1"]) as socket:
        assert socket.subprotocol == "forge.v1"


async def test_a_flood_of_messages_ends_the_connection(served: Served) -> None:
    async with served.socket() as socket:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(ws.MESSAGES + 2):
                await socket.send('{"unsubscribe": []}')
        assert "messages a minute" in (await said(socket))["why"]


async def test_a_client_that_reads_nothing_is_closed_harms_nobody_and_can_resume(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ws, "READ_SECONDS", 0.5)
    monkeypatch.setattr(server.WebSocket, "patience", 1.5)
    await make_run(served.control.database)
    count = 6000
    asleep = served.socket("asleep", max_queue=1, open_timeout=SECONDS)
    async with served.socket("awake") as awake:
        sleeper = await asleep.__aenter__()
        sleeper.transport.pause_reading()
        await subscribe(sleeper, {"demo": 0})
        await subscribe(awake, {"demo": 0})
        for n in range(0, count, 500):
            await record(served, "demo", [line(i, text="x" * 1000) for i in range(n + 1, n + 501)])
        assert await numbers(awake, count) == list(range(1, count + 1))
    async with asyncio.timeout(SECONDS):
        while any(feed_.readers for feed_, _ in served.feeds._feeds.values()):
            await asyncio.sleep(0.05)
    sleeper.transport.resume_reading()
    found: list[int] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            message = await said(sleeper)
            found += [each["seq"] for each in message.get("events", ())]
    await asleep.__aexit__(None, None, None)
    assert found == list(range(1, len(found) + 1)) and len(found) < count
    async with served.socket("asleep") as socket:
        await subscribe(socket, {"demo": len(found)})
        assert await numbers(socket, count) == list(range(len(found) + 1, count + 1))


async def test_a_ring_that_has_moved_on_sends_readers_to_the_database(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RING_EVENTS", 20)
    await make_run(served.control.database)
    for n in range(0, 1300, 100):
        await record(served, "demo", lines(range(n + 1, n + 101)))
    readers = [served.socket(f"reader-{n}") for n in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(reader) for reader in readers]
        for start, socket in enumerate(sockets):
            await subscribe(socket, {"demo": start * 613})
        for start, socket in enumerate(sockets):
            assert await numbers(socket, 1300) == list(range(start * 613 + 1, 1301))
