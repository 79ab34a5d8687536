"""The events of ended runs as one object: read like rows, counted like rows, and never lost half-way."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from components.shared.runtime.errors import DamagedObject, MissingKey, StoreError
from components.shared.runtime.store.folder import FolderStore
from pipelines.control.context import Control
from pipelines.control.services.packing import pack_events
from pipelines.control.store import compacted, compaction
from pipelines.control.store.compaction import Packed, compact, ended
from pipelines.control.store.database import Database, now
from pipelines.control.store.events import Event, page
from pipelines.control.store.tables import event, run
from tests.control.log.made import line, lines, make_run, whole, write


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacted, "BLOCK", 10)


async def over(database: Database, count: int = 95, **columns: Any) -> list[Event]:
    """A run that has ended, and its events."""
    await make_run(database, state="succeeded", finished=1.0, **columns)
    await write(
        database, "demo", [line(n, channel="metrics" if n % 7 == 0 else "logs") for n in range(1, count + 1)]
    )
    return await whole(database, "demo")


async def rows(database: Database) -> int:
    async with database.read() as connection:
        return await connection.scalar(select(func.count()).select_from(event)) or 0


async def test_a_compacted_run_is_read_as_before_from_any_place(database: Database, tmp_path: Path) -> None:
    before = await over(database)
    packed = await compact(database, "demo", str(tmp_path / "store"))
    assert packed and packed.events == 95 and await rows(database) == 0
    for limit in (1, 9, 10, 1000):
        assert await whole(database, "demo", limit) == before
    assert await page(database, "demo", 37, 5) == before[37:42]
    assert await page(database, "demo", 95) == []
    metrics = [one for one in before if one.channel == "metrics"]
    assert await page(database, "demo", 20, 3, {"metrics"}) == metrics[2:5]


async def test_the_object_is_lines_of_json_that_any_tool_reads(database: Database, tmp_path: Path) -> None:
    before = await over(database)
    await compact(database, "demo", str(tmp_path))
    said = gzip.decompress((tmp_path / "event-log" / "demo-95.jsonl.gz").read_bytes()).splitlines()
    assert [json.loads(text)["data"] for text in said] == [one.data for one in before]


async def test_what_comes_late_counts_once_and_follows(database: Database, tmp_path: Path) -> None:
    before = await over(database)
    await compact(database, "demo", str(tmp_path))
    fresh = await write(database, "demo", lines(range(90, 99)))
    assert [(one.seq, one.n) for one in fresh] == [(96, 96), (97, 97), (98, 98)]
    assert await whole(database, "demo", 20) == before + fresh
    again = await compact(database, "demo", str(tmp_path))
    assert again == Packed(98, again.bytes if again else 0) and await rows(database) == 0
    assert await whole(database, "demo", 20) == before + fresh
    assert [path.name for path in (tmp_path / "event-log").iterdir()] == ["demo-98.jsonl.gz"]
    assert await write(database, "demo", lines(range(1, 99))) == []


async def test_a_run_that_goes_on_is_left_alone(database: Database, tmp_path: Path) -> None:
    await over(database)
    async with database.write() as connection:
        await connection.execute(update(run).values(state="running"))
    assert await compact(database, "demo", str(tmp_path)) is None
    assert await rows(database) == 95


async def test_compacting_twice_at_once_does_it_once(database: Database, tmp_path: Path) -> None:
    before = await over(database)
    await asyncio.gather(*(compact(database, "demo", str(tmp_path)) for _ in range(3)))
    assert await compact(database, "demo", str(tmp_path)) is None
    assert await whole(database, "demo") == before


@pytest.mark.parametrize("step", ["put", "sha256", "upsert", "delete"])
async def test_killed_half_way_nothing_is_lost_and_the_next_one_ends_it(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = await over(database)

    class Killed(BaseException):
        """As if the process ended here."""

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        if step in ("put", "sha256"):
            patched.setattr(FolderStore, step, die)
        else:
            patched.setattr(compaction, step, die)
        with pytest.raises(Killed):
            await compact(database, "demo", str(tmp_path))
    assert await rows(database) == 95
    assert await whole(database, "demo") == before
    assert await compact(database, "demo", str(tmp_path))
    assert await rows(database) == 0
    assert await whole(database, "demo") == before


async def test_a_store_that_loses_what_it_is_given_costs_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await over(database)
    monkeypatch.setattr(FolderStore, "sha256", lambda self, key: "0" * 64)
    with pytest.raises(DamagedObject, match="other events"):
        await compact(database, "demo", str(tmp_path))
    assert await rows(database) == 95 and await whole(database, "demo") == before


async def test_an_object_that_is_gone_or_damaged_is_said(database: Database, tmp_path: Path) -> None:
    await over(database)
    await compact(database, "demo", str(tmp_path))
    path = tmp_path / "event-log" / "demo-95.jsonl.gz"
    content = bytearray(path.read_bytes())
    content[40] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DamagedObject, match="damaged"):
        await page(database, "demo", 0)
    path.write_bytes(content[:-5])
    with pytest.raises(DamagedObject, match="not whole"):
        await page(database, "demo", 0)
    path.unlink()
    with pytest.raises(MissingKey):
        await page(database, "demo", 0)


async def test_readers_at_work_while_it_happens_see_each_event_once(
    database: Database, tmp_path: Path
) -> None:
    before = await over(database, 400)

    async def read() -> list[Event]:
        found: list[Event] = []
        while len(found) < len(before):
            found += await page(database, "demo", len(found), 13)
        return found

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await compact(database, "demo", str(tmp_path))
    for found in await asyncio.gather(*readers):
        assert found == before


async def test_an_object_in_a_bucket_is_read_as_one_in_a_folder(database: Database, s3_uri: str) -> None:
    before = await over(database)
    await compact(database, "demo", f"{s3_uri}/runs")
    assert await whole(database, "demo", 30) == before


async def test_the_job_packs_what_has_ended_a_while_ago_beside_its_artifacts(
    control: Control, tmp_path: Path
) -> None:
    store = tmp_path / "artifacts"
    await over(control.database, root=str(store))
    await make_run(control.database, "new", state="succeeded", finished=now())
    await write(control.database, "new", lines([1]))
    assert await ended(control.database) == ["demo"]
    result = await pack_events(control)
    assert (result["runs"], result["events"], result["failed"]) == (1, 95, 0)
    assert (store / "event-log").is_dir() and await ended(control.database) == []


async def test_a_store_that_does_not_answer_leaves_a_run_to_the_next_time(
    control: Control, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await over(control.database, root=str(tmp_path))

    def refuse(*_: Any) -> None:
        raise StoreError("the store does not answer")

    monkeypatch.setattr(FolderStore, "put", refuse)
    assert (await pack_events(control))["failed"] == 1
    assert await rows(control.database) == 95
