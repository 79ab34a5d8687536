"""What pods leave in the store of their run is read in order, once, whatever is missing or damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.shared.runtime.errors import StoreError
from components.shared.runtime.store.uri import open_store
from components.shared.runtime.tracking import chunks
from pipelines.control.context import Control
from pipelines.control.services.chunks import LIST_SECONDS, WAIT_SECONDS, ChunkReader
from pipelines.control.store.events import LeaseLost
from tests.control.pods.made import all_events, leave, line, new_run, row_of, state, tasks_of


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_chunks_become_events_in_order_and_once(control: Control, tmp_path: Path) -> None:
    await new_run(control)
    reader = ChunkReader(str(tmp_path))
    leave(tmp_path, 1, [state(1, started=5.0), line(2), line(3, "log")])
    leave(tmp_path, 2, [line(4), line(5, "progress", stage="fit", step=3, total=9, eta=1.5)])
    assert await reader.collect(control, "r") == 5
    assert await reader.collect(control, "r") == 0
    assert (
        await ChunkReader(str(tmp_path)).collect(control, "r") == 0
    )  # another collector, from the beginning
    events = await all_events(control)
    assert [(event.seq, event.n) for event in events] == [(n, n) for n in range(1, 6)]
    assert {event.producer for event in events} == {"pod/cognate-trunk/p"}
    assert [event.channel for event in events] == [
        "phase_progress", "metrics", "logs", "metrics", "phase_progress",
    ]  # fmt: skip
    task = (await tasks_of(control))["cognate-trunk"]
    assert (task["state"], task["attempt"], task["phase"]) == ("running", 1, "cognate")
    assert task["progress"]["step"] == 3
    assert (await row_of(control))["phases"]["cognate"]["stage"] == "fit"


async def test_between_two_listings_the_next_chunk_of_each_process_is_asked_for(
    control: Control, tmp_path: Path
) -> None:
    await new_run(control)
    clock = Clock()
    reader = ChunkReader(str(tmp_path), clock=clock)
    leave(tmp_path, 1, [line(1)])
    assert await reader.collect(control, "r") == 1
    leave(tmp_path, 2, [line(2)])
    leave(tmp_path, 1, [line(1)], task="cognate-variant-1", process="new")
    leave(tmp_path, 1, [line(1)], task="cognate-variant-2", process="unknown")
    assert await reader.collect(control, "r", living={"cognate-variant-1": "new"}) == 2
    clock.now += LIST_SECONDS
    assert await reader.collect(control, "r") == 1


async def test_a_missing_chunk_is_waited_for_said_and_read_when_it_comes(
    control: Control, tmp_path: Path
) -> None:
    await new_run(control)
    clock = Clock()
    reader = ChunkReader(str(tmp_path), clock=clock)
    leave(tmp_path, 1, [line(1)])
    leave(tmp_path, 4, [line(10)])
    assert await reader.collect(control, "r") == 1
    clock.now += WAIT_SECONDS - 1
    assert await reader.collect(control, "r") == 0
    clock.now += 1
    assert await reader.collect(control, "r") == 3
    events = await all_events(control)
    said = [event.data["what"] for event in events if event.channel == "errors"]
    assert said == [
        "chunk 2 of what cognate-trunk has told is missing",
        "chunk 3 of what cognate-trunk has told is missing",
    ]
    leave(tmp_path, 2, [line(2), line(3)])
    clock.now += LIST_SECONDS
    assert await reader.collect(control, "r") == 2
    assert [event.n for event in await all_events(control) if event.channel == "metrics"] == [1, 10, 2, 3]


async def test_of_a_run_that_has_ended_nothing_is_waited_for(control: Control, tmp_path: Path) -> None:
    await new_run(control)
    leave(tmp_path, 2, [line(2)])
    assert await ChunkReader(str(tmp_path)).collect(control, "r", everything=True) == 2
    assert [event.channel for event in await all_events(control)] == ["metrics", "errors"]


async def test_a_damaged_chunk_is_named_and_holds_nothing_up(control: Control, tmp_path: Path) -> None:
    await new_run(control)
    leave(tmp_path, 1, [line(1)])
    leave(tmp_path, 2, [line(2)]).write_bytes(b"no gzip")
    leave(tmp_path, 3, [line(3), line(4, "metric", values=["not", "a", "mapping"]), line(5)])
    leave(tmp_path, 4, [line(6, "of the future", anything=1), line(7)])
    (tmp_path / "events" / "notes.txt").write_text("somebody else's")
    reader = ChunkReader(str(tmp_path))
    await reader.collect(control, "r")
    events = await all_events(control)
    assert [event.n for event in events if event.channel == "metrics"] == [1, 3, 5, 7]
    said = [event.data for event in events if event.channel == "errors"]
    assert [error["what"] for error in said] == [
        "chunk 2 of what cognate-trunk has told is damaged",
        "a line of a pod's events cannot be understood",
    ] or [error["what"] for error in said] == [
        "a line of a pod's events cannot be understood",
        "chunk 2 of what cognate-trunk has told is damaged",
    ]
    assert (await row_of(control))["error"] is None


async def test_what_another_holder_may_not_write_is_read_again(control: Control, tmp_path: Path) -> None:
    await new_run(control, epoch=2)
    leave(tmp_path, 1, [line(1)])
    reader = ChunkReader(str(tmp_path))
    with pytest.raises(LeaseLost):
        await reader.collect(control, "r", epoch=1)
    assert await reader.collect(control, "r", epoch=2) == 1


async def test_chunks_are_read_from_s3_and_a_store_that_is_away_is_no_damage(
    control: Control, tmp_path: Path, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await new_run(control)
    root = f"{s3_uri}/pipeline/run"
    store = open_store(root)
    for number in range(1, 4):
        key = f"events/{chunks.key('cognate-trunk', 'p', number)}"
        store.put(key, chunks.encode([line(number)]))
    reader = ChunkReader(root)
    assert await reader.collect(control, "r") == 3
    away = ChunkReader(root)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError):
        await away.collect(control, "r")


async def test_a_pods_end_brings_figures_and_no_verdict(control: Control, tmp_path: Path) -> None:
    await new_run(control)
    leave(tmp_path, 1, [state(1, started=5.0)])
    ending = {"exit_code": 5, "seconds": 3.0, "cpu_seconds": 2.0, "peak_memory_bytes": 7}
    leave(tmp_path, 2, [state(2, "failed", **ending)])
    leave(tmp_path, 1, [state(1, attempt=2, started=50.0)], process="q")
    reader = ChunkReader(str(tmp_path))
    await reader.collect(control, "r")
    task = (await tasks_of(control))["cognate-trunk"]
    assert (task["state"], task["attempt"]) == ("running", 2)
    assert task["status"]["started"] == 50.0
    assert (await row_of(control))["failing"] == ""
    # An older process that is read late changes nothing of the newer attempt.
    leave(tmp_path, 1, [state(1, started=5.0), state(2, "failed", exit_code=9)], process="late")
    await reader.collect(control, "r", everything=True)
    task = (await tasks_of(control))["cognate-trunk"]
    assert (task["state"], task["attempt"], task["status"]["exit_code"]) == ("running", 2, None)
    shutil.rmtree(tmp_path / "events")
    assert await reader.collect(control, "r", everything=True) == 0
