"""The log of events: dense numbers, each event once, on both databases."""

from __future__ import annotations

import asyncio
import json
import math
import random

import pytest
from sqlalchemy import select, update

from pipelines.control.errors import Refused
from pipelines.control.store.database import Database
from pipelines.control.store.events import LeaseLost, NewEvent, append, page
from pipelines.control.store.plain_json import MAX_DATA
from pipelines.control.store.tables import run
from tests.control.log.made import line, lines, make_run, whole, write


async def test_events_get_dense_numbers_from_one(database: Database) -> None:
    await make_run(database)
    assert [event.seq for event in await write(database, "demo", lines([1, 2]))] == [1, 2]
    assert [event.seq for event in await write(database, "demo", lines([3]))] == [3]
    async with database.read() as connection:
        assert await connection.scalar(select(run.c.last_seq)) == 3


async def test_each_run_counts_for_itself(database: Database) -> None:
    for name in ("a", "b"):
        await make_run(database, name)
        assert [event.seq for event in await write(database, name, lines([1]))] == [1]


async def test_what_comes_twice_counts_once_also_within_a_batch(database: Database) -> None:
    await make_run(database)
    await write(database, "demo", lines([1, 2, 3]))
    fresh = await write(database, "demo", [*lines([2, 4, 4, 1]), line(1, "kfp")])
    assert [(event.seq, event.producer, event.n) for event in fresh] == [(4, "folder", 4), (5, "kfp", 1)]


@pytest.mark.parametrize("seed", range(3))
async def test_shuffled_doubled_batches_of_many_producers_count_once_each(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    await make_run(database)
    batches = []
    for producer in ("folder", "pod/bitnet/1", "pod/bitnet/2", "kfp"):
        for size in (20, 33):  # by HTTP, and by chunks of the store
            batches += [
                lines(range(start, min(start + size, 201)), producer) for start in range(1, 201, size)
            ]
    batches += chance.sample(batches, 20)
    chance.shuffle(batches)
    gate = asyncio.Semaphore(4)

    async def deliver(batch: list[NewEvent]) -> None:
        async with gate:
            await write(database, "demo", batch)

    await asyncio.gather(*map(deliver, batches))
    found = await whole(database, "demo", limit=97)
    assert [event.seq for event in found] == list(range(1, 801))
    assert len({(event.producer, event.n) for event in found}) == 800


async def test_a_reader_misses_nothing_of_transactions_that_overlap(database: Database) -> None:
    await make_run(database)
    seen: list[int] = []
    done = asyncio.Event()

    async def read() -> None:
        while True:
            last = done.is_set()
            batch = await page(database, "demo", seen[-1] if seen else 0)
            seen.extend(event.seq for event in batch)
            if last and not batch:
                return
            await asyncio.sleep(0)

    async def writer(producer: str) -> None:
        for n in range(1, 26):
            async with database.write() as connection:
                await append(connection, "demo", [line(n, producer)])
                await asyncio.sleep(random.random() / 500)  # others commit meanwhile

    reading = asyncio.create_task(read())
    await asyncio.gather(*(writer(f"pod/{number}") for number in range(4)))
    done.set()
    await reading
    assert seen == list(range(1, 101))


async def test_a_transaction_that_is_undone_leaves_no_gap(database: Database) -> None:
    await make_run(database)
    with pytest.raises(ZeroDivisionError):
        async with database.write() as connection:
            await append(connection, "demo", lines([1, 2]))
            raise ZeroDivisionError
    assert [event.seq for event in await write(database, "demo", lines([2]))] == [1]


async def test_a_writer_whose_lease_is_lost_writes_nothing(database: Database) -> None:
    await make_run(database, epoch=4)
    await write(database, "demo", lines([1]), epoch=4)
    async with database.write() as connection:
        await connection.execute(update(run).values(epoch=5))
    with pytest.raises(LeaseLost, match="somebody else"):
        await write(database, "demo", lines([2]), epoch=4)
    assert len(await whole(database, "demo")) == 1


async def test_a_run_that_is_not_there_takes_no_events(database: Database) -> None:
    with pytest.raises(Refused, match="no such run"):
        await write(database, "other", lines([1]))


async def test_a_page_has_only_the_channels_that_are_asked_for(database: Database) -> None:
    await make_run(database)
    await write(
        database, "demo", [line(n, channel="metrics" if n % 3 == 0 else "logs") for n in range(1, 10)]
    )
    assert [event.seq for event in await page(database, "demo", 3, 2, {"metrics"})] == [6, 9]


async def test_an_event_says_on_the_wire_what_was_written(database: Database) -> None:
    await make_run(database)
    text = 'a "line" with ü, \\ and \x1b[31m'
    await write(database, "demo", [line(1, text=text)])
    said = json.loads((await page(database, "demo", 0))[0].wire)
    assert said == {
        "run": "demo",
        "seq": 1,
        "time": 1764460801.0,
        "channel": "logs",
        "task": "bitnet",
        "attempt": 1,
        "data": {"kind": "log", "lines": [text], "source": "task", "end": 0},
    }


async def test_what_is_no_number_and_no_character_is_kept_as_what_can_be_said(database: Database) -> None:
    await make_run(database)
    data = {"kind": "metric", "values": {"loss": math.nan, "a\0b": math.inf}, "stage": "\ud800"}
    await write(database, "demo", [NewEvent("metrics", "bitnet", 1, "folder", 1, 1.0, data)])
    assert (await page(database, "demo", 0))[0].data == {
        "kind": "metric",
        "values": {"loss": None, "a\ufffdb": None},
        "stage": "?",
    }


async def test_an_event_that_is_too_large_is_cut_and_says_so(database: Database) -> None:
    await make_run(database)
    many = {"kind": "log", "lines": [f"line {n} " + "x" * 3000 for n in range(2000)]}
    few = {"kind": "log", "lines": ["z" * 100_000] * 3}
    wide = {"kind": "log", **{f"key {n}": "y" * 3000 for n in range(2000)}}
    events = [
        NewEvent("logs", "bitnet", 1, "folder", n, 1.0, data) for n, data in enumerate((many, wide, few), 1)
    ]
    await write(database, "demo", events)
    cut, emptied, shortened = await page(database, "demo", 0)
    assert len(cut.text) <= MAX_DATA and cut.data["cut"] > 6_000_000
    assert cut.data["lines"][0] == "… 1,971 lines are in the log itself only"
    assert len(cut.data["lines"]) == 30 and cut.data["lines"][-1].startswith("…")
    assert set(emptied.data) == {"kind", "cut"}
    assert [line[:2] for line in shortened.data["lines"]] == ["…z"] * 3
