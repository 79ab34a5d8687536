"""Memory, Redis, disk: the first that has it fills those before it, none holds more than it may, and one computes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipelines.control.cache import remote
from pipelines.control.cache.disk import Disk
from pipelines.control.cache.key import Key
from pipelines.control.cache.layers import Cache
from pipelines.control.cache.memory import ENTRY_BYTES, Memory
from pipelines.control.cache.remote import Remote
from tests.control import servers

DIGEST = hashlib.sha256(b"a model").hexdigest()
KEY = Key(DIGEST, "head")


class Counted:
    """What computes, and how often it had to."""

    def __init__(self, value: bytes = b"value", seconds: float = 0.0) -> None:
        self.value, self.seconds, self.times = value, seconds, 0

    async def __call__(self) -> bytes:
        self.times += 1
        await asyncio.sleep(self.seconds)
        return self.value


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    opened = Cache(Memory(1 << 20), Disk(tmp_path / "cache", 1 << 20))
    yield opened
    await opened.close()


async def test_what_was_computed_is_not_computed_again(cache: Cache) -> None:
    compute = Counted()
    assert [await cache.get_or_compute(KEY, compute) for _ in range(3)] == [b"value"] * 3
    assert (compute.times, cache.counts.memory, cache.counts.computed) == (1, 2, 1)


async def test_of_many_who_ask_at_once_one_computes(cache: Cache) -> None:
    compute = Counted(seconds=0.05)
    values = await asyncio.gather(*(cache.get_or_compute(KEY, compute) for _ in range(50)))
    assert (set(values), compute.times, cache.counts.joined) == ({b"value"}, 1, 49)


async def test_who_goes_away_does_not_take_it_from_the_others(cache: Cache) -> None:
    compute = Counted(seconds=0.05)
    first, second = (asyncio.create_task(cache.get_or_compute(KEY, compute)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second == b"value"
    assert compute.times == 1


async def test_an_error_goes_to_everybody_and_is_not_kept(cache: Cache) -> None:
    async def fail() -> bytes:
        raise ValueError("no")

    for outcome in await asyncio.gather(
        *(cache.get_or_compute(KEY, fail) for _ in range(3)), return_exceptions=True
    ):
        assert isinstance(outcome, ValueError)
    assert await cache.get_or_compute(KEY, Counted()) == b"value"


async def test_the_disk_fills_the_memory_of_the_next_process(cache: Cache, tmp_path: Path) -> None:
    await cache.get_or_compute(KEY, Counted())
    await cache.settled()
    other = Cache(Memory(1 << 20), Disk(tmp_path / "cache", 1 << 20))
    compute = Counted()
    assert [await other.get_or_compute(KEY, compute) for _ in range(2)] == [b"value"] * 2
    assert (compute.times, other.counts.disk, other.counts.memory) == (0, 1, 1)


async def test_a_damaged_file_is_computed_anew(cache: Cache, tmp_path: Path) -> None:
    await cache.get_or_compute(KEY, Counted())
    await cache.settled()
    [file] = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    for damage in (file.read_bytes()[:-1], file.read_bytes()[:-1] + b"x", b""):
        file.write_bytes(damage)
        other = Cache(Memory(1 << 20), Disk(tmp_path / "cache", 1 << 20))
        compute = Counted()
        assert await other.get_or_compute(KEY, compute) == b"value"
        assert compute.times == 1
        await other.settled()


async def test_an_entry_is_no_other_keys(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1 << 20)
    disk.put(KEY, b"value")
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    other = Key(DIGEST, "other")
    (file.parent / other.name).write_bytes(file.read_bytes())
    assert (disk.get(KEY), disk.get(other)) == (b"value", None)


async def test_forgetting_a_digest_drops_every_view_of_it(cache: Cache) -> None:
    views = [Key(DIGEST, f"view {number}") for number in range(3)]
    other = Key(hashlib.sha256(b"another").hexdigest(), "head")
    for key in (*views, other):
        await cache.get_or_compute(key, Counted())
    await cache.forget(DIGEST)
    again = Counted(b"new")
    assert {await cache.get_or_compute(key, again) for key in views} == {b"new"}
    assert await cache.get_or_compute(other, again) == b"value"
    assert again.times == 3


async def test_what_is_being_computed_while_it_is_forgotten_is_not_kept(cache: Cache) -> None:
    old = asyncio.create_task(cache.get_or_compute(KEY, Counted(b"old", 0.05)))
    await asyncio.sleep(0.01)
    await cache.forget(DIGEST)
    new = await cache.get_or_compute(KEY, Counted(b"new"))
    assert (await old, new) == (b"old", b"new")
    assert await cache.get_or_compute(KEY, Counted(b"third")) == b"new"


def test_the_memory_holds_no_more_than_it_may_and_drops_what_was_not_asked_for_longest() -> None:
    memory = Memory(3 * (ENTRY_BYTES + 100))
    keys = [Key(hashlib.sha256(bytes([number])).hexdigest(), "") for number in range(4)]
    for key in keys[:3]:
        memory.put(key, bytes(100))
    assert memory.get(keys[0]) is not None
    memory.put(keys[3], bytes(100))
    assert [memory.get(key) is not None for key in keys] == [True, False, True, True]
    assert (memory.bytes, memory.evicted) == (memory.limit, 1)
    memory.put(keys[0], bytes(10_000))  # larger than all that may be kept
    assert memory.get(keys[0]) is None
    assert memory.bytes <= memory.limit


def test_the_disk_holds_no_more_than_it_may(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 10_000)
    for number in range(50):
        disk.put(Key(hashlib.sha256(bytes([number])).hexdigest(), ""), bytes(1000))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 10_000
    assert disk.evicted >= 40
    assert disk.get(Key(hashlib.sha256(bytes([49])).hexdigest(), "")) is not None


async def test_replicas_share_what_one_has_computed(redis: str, tmp_path: Path) -> None:
    first, second = (
        Cache(Memory(1 << 20), Disk(tmp_path / name, 1 << 20), Remote(redis, 60)) for name in ("a", "b")
    )
    compute = Counted()
    await first.get_or_compute(KEY, compute)
    await first.settled()
    assert await second.get_or_compute(KEY, compute) == b"value"
    assert await second.get_or_compute(KEY, compute) == b"value"
    assert (compute.times, second.counts.redis, second.counts.memory) == (1, 1, 1)
    await second.forget(DIGEST)
    await first.forget(DIGEST)
    await second.get_or_compute(KEY, compute)
    assert compute.times == 2
    for cache in (first, second):
        await cache.close()


async def test_the_disk_fills_redis(redis: str, tmp_path: Path) -> None:
    disk = Disk(tmp_path, 1 << 20)
    disk.put(KEY, b"value")
    one = Cache(Memory(1 << 20), disk, Remote(redis, 60))
    await one.get_or_compute(KEY, Counted())
    await one.settled()
    layer = Remote(redis, 60)
    assert (await layer.get(KEY), one.counts.disk) == (b"value", 1)
    await layer.close()
    await one.close()


async def test_what_somebody_else_has_put_into_redis_is_not_believed(redis: str) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(redis) as client:
        await client.hset(remote.PREFIX + DIGEST, KEY.name, "forged")  # type: ignore[misc]
    layer = Remote(redis, 60)
    assert await layer.get(KEY) is None
    await layer.close()


async def test_a_redis_that_dies_costs_time_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = servers.redis_program()
    if program is None:
        pytest.skip("redis-server is not installed")
    monkeypatch.setattr(remote, "PAUSE", 0.1)
    with servers.redis_server(program) as server:
        cache = Cache(Memory(0), Disk(tmp_path, 1 << 20), Remote(server.url, 60))
        await cache.get_or_compute(KEY, Counted())
        await cache.settled()
        server.kill()
        compute = Counted(b"other")
        assert await cache.get_or_compute(KEY, compute) == b"value"  # from the disk
        assert await cache.get_or_compute(Key(DIGEST, "more"), compute) == b"other"
        assert not cache.statistics()["redis_answers"]
        server.start()
        await asyncio.sleep(0.15)
        await cache.get_or_compute(Key(DIGEST, "third"), compute)
        await cache.settled()
        assert await cache.get_or_compute(Key(DIGEST, "third"), compute) == b"other"
        assert cache.counts.redis >= 1
        assert cache.statistics()["redis_errors"] >= 1
        await cache.close()
