"""A job is run by one process of all when its time has come, and everybody sees what it came to."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from pipelines.control.context import Control
from pipelines.control.errors import Refused
from pipelines.control.services import jobs
from pipelines.control.services.housekeeping import DAY, clean
from pipelines.control.services.projection import record
from pipelines.control.store.events import page
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus
from tests.control.log.made import lines, make_run


async def test_one_of_many_runs_a_job_and_its_result_is_there(control: Control) -> None:
    await jobs.asked_for(control, "expire")
    took = await asyncio.gather(*(jobs.take(control, "expire") for _ in range(8)))
    assert sorted(took) == [False] * 7 + [True]
    with pytest.raises(Refused) as refused:
        await jobs.asked_for(control, "expire")
    assert refused.value.status == 409
    await jobs.run_taken(control, "expire")
    [state] = [one for one in await jobs.listed(control) if one.name == "expire"]
    assert state.result == {"idempotency_keys": 0, "confirmations": 0, "tokens": 0}
    assert not state.running and state.finished and state.next > state.finished
    assert not await jobs.take(control, "expire")


async def test_there_is_no_other_job(control: Control) -> None:
    with pytest.raises(Refused) as refused:
        await jobs.asked_for(control, "rm")
    assert refused.value.status == 404


def checkpoint(runs: Path, name: str, status: str, *, age: float = 0.0, task: str = "bitnet") -> Path:
    folder = RunFolder(runs / name)
    folder.write(RunStatus(name, "failed", parameters={}))
    folder.pipeline.write_text("")
    folder.task(task).write(TaskStatus(task, "bitnet", "bitnet", status=status))  # type: ignore[arg-type]
    path = folder.task(task).checkpoints
    path.mkdir()
    (path / "step-1").write_text("weights")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_checkpoints_go_that_nobody_goes_on_from(tmp_path: Path) -> None:
    done = checkpoint(tmp_path, "done", "succeeded")
    fresh = checkpoint(tmp_path, "fresh", "failed")
    old = checkpoint(tmp_path, "old", "failed", age=8 * DAY)
    pinned = checkpoint(tmp_path, "pinned", "succeeded")
    told = checkpoint(tmp_path, "told", "succeeded")
    RunFolder(tmp_path / "reader").write(RunStatus("reader", parameters={"from": str(told)}))
    alive = checkpoint(tmp_path, "alive", "succeeded")
    with RunFolder(tmp_path / "alive").lock():
        result = clean(tmp_path, {"pinned"})
    assert result == {"removed": 2, "freed_bytes": 14, "kept_as_referred_to": 1}
    assert [path.exists() for path in (done, fresh, old, pinned, told, alive)] == [
        False, True, False, True, True, True,
    ]  # fmt: skip


async def test_the_events_of_a_run_that_has_ended_become_an_object_and_are_read_as_before(
    control: Control, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    await make_run(control.database, state="succeeded", finished=1.0, root=str(store))
    await record(control, "demo", lines(range(1, 6)))
    before = await page(control.database, "demo", 0)
    packed = await jobs.JOBS["compact_runs"].work(control)
    assert packed.pop("bytes") > 0 and packed == {"runs": 1, "events": 5, "failed": 0}
    assert [event.wire for event in await page(control.database, "demo", 0)] == [
        event.wire for event in before
    ]
    assert await record(control, "demo", lines(range(1, 6))) == []  # what comes again is known


async def test_no_job_takes_the_events_of_a_run_to_where_other_processes_cannot_read(
    control: Control, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "demo"
    folder.mkdir(parents=True)
    await make_run(control.database, state="succeeded", finished=1.0, folder=str(folder))
    await record(control, "demo", lines(range(1, 6)))
    for own in jobs.JOBS.values():
        await own.work(control)
    assert (folder / "event-log").exists() is control.database.sqlite  # with Postgres others may be elsewhere
    assert len(await page(control.database, "demo", 0)) == 5
