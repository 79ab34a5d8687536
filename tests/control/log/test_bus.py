"""What every bus promises, within a process and over Redis; and what becomes of the latter when Redis goes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from pipelines.control.bus.bus import Bus, bus_of
from pipelines.control.bus.memory import MemoryBus
from pipelines.control.bus.redis import RedisBus
from pipelines.control.settings import ControlSettings
from tests.control import servers
from tests.needs import lacks

SECONDS = 20.0


@pytest.fixture(params=["memory", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    if request.param == "memory":
        made: Bus = MemoryBus()
    else:
        made = RedisBus(request.getfixturevalue("redis"))
    yield made
    await made.close()


async def heard(woken: AsyncIterator[str], *wanted: str) -> set[str]:
    """What is heard until all that is wanted has been."""
    found: set[str] = set()
    async with asyncio.timeout(SECONDS):
        async for run in woken:
            found.add(run)
            if found >= set(wanted):
                return found
    return found


async def test_every_reader_hears_every_run_that_is_woken(bus: Bus) -> None:
    async with bus.listening() as one, bus.listening() as other:
        for run in ("a", "b", ""):
            await bus.wake(run)
        assert await heard(one, "a", "b", "") == {"a", "b", ""}
        assert await heard(other, "a", "b", "") == {"a", "b", ""}


async def test_many_hints_for_a_reader_that_does_not_read_are_one(bus: Bus) -> None:
    async with bus.listening() as woken:
        for _ in range(1000):
            await bus.wake("a")
        await bus.wake("b")
        first = await anext(woken)
        second = await anext(woken)
    assert {first, second} == {"a", "b"}


async def test_a_reader_that_has_gone_is_forgotten(bus: Bus) -> None:
    async with bus.listening():
        pass
    async with bus.listening() as woken:
        await bus.wake("a")
        assert await heard(woken, "a") == {"a"}


async def test_what_one_process_wakes_is_heard_in_another(redis: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        one, other = RedisBus(redis), RedisBus(redis)
        stack.push_async_callback(one.close)
        stack.push_async_callback(other.close)
        woken = await stack.enter_async_context(other.listening())
        await one.wake("a")
        assert await heard(woken, "a") == {"a"}


async def test_a_redis_that_is_killed_fails_nobody_and_wakes_again_when_it_is_back() -> None:
    program = servers.redis_program() or lacks("redis-server is not installed")
    with servers.redis_server(program) as server:
        one, other = RedisBus(server.url), RedisBus(server.url)
        async with one.listening() as here, other.listening() as there:
            await one.wake("before")
            assert await heard(there, "before")
            server.kill()
            await one.wake("while it is away")
            assert "while it is away" in await heard(here, "while it is away")
            server.start()

            async def keep_waking() -> (
                None
            ):  # what is published before the other has subscribed again is lost
                while True:
                    await one.wake("after")
                    await asyncio.sleep(0.1)

            waking = asyncio.create_task(keep_waking())
            assert "after" in await heard(there, "after")
            waking.cancel()
        await one.close()
        await other.close()


async def test_a_redis_that_was_never_there_lets_readers_of_this_process_hear() -> None:
    bus = bus_of(ControlSettings(redis_url=f"redis://127.0.0.1:{servers.free_port()}/0"))
    await bus.wake("earlier")
    async with bus.listening() as woken:
        await bus.wake("a")
        assert "a" in await heard(woken, "a")
    await bus.close()
