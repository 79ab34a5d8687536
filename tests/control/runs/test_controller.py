"""Runs are carried out, stopped, gone on with and taken over: processes of their own, which the controller only holds."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from pipelines.control.context import Control, opened
from pipelines.control.services import actions, runs
from pipelines.control.services.controller import serve
from pipelines.control.services.local_carrier import row_now
from pipelines.control.services.processes import of_run, process_of
from pipelines.control.settings import ControlSettings
from pipelines.control.store.database import now
from pipelines.control.store.events import page
from pipelines.control.store.tables import run
from pipelines.runs.folder import RunFolder, RunStatus
from tests.control.log.made import make_run
from tests.control.runs.made import ADMIN
from tests.control.runs.toys import digests, patient, quick, toy_run, until
from tests.control.servers import Postgres


@contextlib.asynccontextmanager
async def controlling(control: Control) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(serve(control))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def state_of(control: Control, name: str) -> str:
    row = await row_now(control, name)
    return row["state"] if row else ""


@pytest.fixture
def settings(tmp_path: Path) -> ControlSettings:
    return ControlSettings(runs=tmp_path / "runs")


async def test_a_run_that_was_asked_for_is_carried_out_and_everything_of_it_is_known(
    control: Control,
) -> None:
    folder = toy_run(control.settings.runs, quick, "toy")
    async with controlling(control):
        await until(lambda: _is(control, "toy", "cancelled"))
        await actions.resumed(control, ADMIN, "toy")
        await until(lambda: _is(control, "toy", "succeeded"))
        await until((folder.path / "report.html").is_file)
    found = await runs.detail(control, "toy", ADMIN)
    assert {task.task: task.status for task in found.tasks} == {"write": "succeeded", "append": "succeeded"}
    assert (folder.path / "artifacts/append/out").read_text() == "ab"


async def test_a_cancelled_run_is_cancelled_when_nothing_of_it_lives(control: Control) -> None:
    folder = toy_run(control.settings.runs, patient, "toy")
    async with controlling(control):
        await until(lambda: _is(control, "toy", "cancelled"))
        await actions.resumed(control, ADMIN, "toy")
        await until((control.settings.runs / "begun").exists)
        seen = await actions.cancelled(control, ADMIN, "toy")
        assert seen.state == "cancelling"
        await until(lambda: _is(control, "toy", "cancelled"))
        assert not folder.active() and not list(of_run(folder))
        assert (control.settings.runs / "checkpointed").exists()
        (control.settings.runs / "gate").touch()
        await actions.resumed(control, ADMIN, "toy")
        await until(lambda: _is(control, "toy", "succeeded"))
    assert (folder.path / "artifacts/append/out").read_text() == "patient!"


async def test_a_run_whose_process_is_killed_goes_on(control: Control) -> None:
    folder = toy_run(control.settings.runs, patient, "toy")
    async with controlling(control):
        await until(lambda: _is(control, "toy", "cancelled"))
        await actions.resumed(control, ADMIN, "toy")
        await until((control.settings.runs / "begun").exists)
        row = await row_now(control, "toy")
        process = process_of(row["process"]) if row else None
        assert process is not None and process.send(signal.SIGKILL)
        (control.settings.runs / "gate").touch()
        await until(lambda: _is(control, "toy", "succeeded"))
        row = await row_now(control, "toy")
    assert row and row["process"]["starts"] == 2
    assert (folder.path / "artifacts/append/out").read_text() == "patient!"


async def test_an_end_of_before_is_not_the_end_of_a_run_that_is_gone_on_with(control: Control) -> None:
    toy_run(control.settings.runs, quick, "toy")
    async with controlling(control):
        await until(lambda: _is(control, "toy", "cancelled"))
        await actions.resumed(control, ADMIN, "toy")
        await until(lambda: _is_recorded(control, "toy"))
        row = await row_now(control, "toy")
        process = process_of(row["process"]) if row else None
        assert process is not None and process.send(signal.SIGKILL)  # it has said nothing yet
        await until(lambda: _is(control, "toy", "succeeded"))
        row = await row_now(control, "toy")
    assert row and row["process"]["starts"] == 2


async def _is_recorded(control: Control, name: str) -> bool:
    row = await row_now(control, name)
    return bool(row and (row["process"] or {}).get("pid"))


async def test_a_folder_or_an_event_that_no_database_keeps_hides_no_other(control: Control) -> None:
    runs = control.settings.runs
    toy_run(runs, quick, "toy")
    for name in ("a", "z"):  # in whatever order they are found
        damaged = RunFolder(runs / name)
        damaged.path.mkdir()
        damaged.write(RunStatus(name, "succeeded", seed=10**30))
    odd = RunFolder(runs / "odd")
    odd.path.mkdir()
    odd.write(RunStatus("odd", "succeeded"))
    line = '{"id": %d, "time": %s, "run": "odd", "kind": "log", "attempt": %d, "data": {"lines": ["x"]}}\n'
    odd.events.write_text(line % (1, "1.0", 10**30) + line % (2, "1e400", 0))
    async with controlling(control):
        await until(lambda: _is(control, "toy", "cancelled"))
        await until(lambda: _is(control, "odd", "succeeded"))
        told = [
            json.loads(one.wire, parse_constant=_no_number) for one in await page(control.database, "odd", 0)
        ]
    assert [one["seq"] for one in told] == [1, 2]


def _no_number(text: str) -> float:
    raise ValueError(text)


async def test_a_run_goes_on_without_a_controller_and_the_next_one_adopts_it(control: Control) -> None:
    folder = toy_run(control.settings.runs, patient, "toy")
    async with controlling(control):
        await until(lambda: _is(control, "toy", "cancelled"))
        await actions.resumed(control, ADMIN, "toy")
        await until((control.settings.runs / "begun").exists)
        before = await row_now(control, "toy")
    assert folder.active()
    async with controlling(control):
        await until(lambda: _epoch_above(control, "toy", before["epoch"] if before else 0))
        (control.settings.runs / "gate").touch()
        await until(lambda: _is(control, "toy", "succeeded"))
        after = await row_now(control, "toy")
    assert before and after and after["process"]["pid"] == before["process"]["pid"]
    assert set(digests(folder)) == {"write", "run-code", "append"}


def gone_on_with(folder: RunFolder) -> subprocess.Popen[bytes]:
    """The command line, going on with a run."""
    words = ["run-pipeline", "--resume", folder.name, "--runs", str(folder.path.parent)]
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


async def test_a_run_of_the_command_line_shows_up_is_followed_and_can_be_cancelled(control: Control) -> None:
    folder = toy_run(control.settings.runs, patient, "toy")
    async with controlling(control):
        process = gone_on_with(folder)
        try:
            await until((control.settings.runs / "begun").exists)
            await until(lambda: _is(control, "toy", "running"))
            assert (await runs.got(control, "toy")).origin == "command"
            await actions.cancelled(control, ADMIN, "toy")
            await until(lambda: _is(control, "toy", "cancelled"))
        finally:
            await asyncio.to_thread(process.wait, 30)
    assert (control.settings.runs / "checkpointed").exists()


async def test_a_run_of_the_command_line_that_is_killed_is_lost_and_says_how_it_goes_on(
    control: Control,
) -> None:
    folder = toy_run(control.settings.runs, patient, "toy")
    async with controlling(control):
        process = gone_on_with(folder)
        await until((control.settings.runs / "begun").exists)
        await until(lambda: _is(control, "toy", "running"))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        await until(lambda: _is(control, "toy", "lost"))
        assert "forge run-pipeline --resume" in (await runs.got(control, "toy")).why
        (control.settings.runs / "gate").touch()
        await actions.resumed(control, ADMIN, "toy")
        await until(lambda: _is(control, "toy", "succeeded"))


async def _is(control: Control, name: str, state: str) -> bool:
    return await state_of(control, name) == state


async def _epoch_above(control: Control, name: str, epoch: int) -> bool:
    row = await row_now(control, name)
    return bool(row and row["epoch"] > epoch)


async def test_a_run_of_another_machine_that_cannot_be_reached_is_lost_and_says_where_it_goes_on(
    control: Control,
) -> None:
    place = "thefarmachine/boot/space"
    await make_run(
        control.database,
        "far",
        state="running",
        folder="/srv/runs/far",
        process={"pid": 7, "started": 1, "place": place, "starts": 1},
    )
    async with controlling(control):
        await until(lambda: _is(control, "far", "lost"))
    why = (await runs.got(control, "far")).why
    assert "thefarmachine" in why and "forge run-pipeline --resume far --runs /srv/runs" in why


async def test_a_run_goes_on_while_the_database_is_away_and_is_written_down_when_it_is_back(
    postgres_server: Postgres, postgres: str, tmp_path: Path
) -> None:
    settings = ControlSettings(runs=tmp_path / "runs", database_url=postgres)
    folder = toy_run(settings.runs, patient, "toy")
    async with opened(settings) as control, controlling(control):
        await until(lambda: _is(control, "toy", "cancelled"))
        await actions.resumed(control, ADMIN, "toy")
        await until((settings.runs / "begun").exists)
        await asyncio.to_thread(postgres_server.stop, "fast")
        try:
            (settings.runs / "gate").touch()
            await until((folder.path / "report.html").is_file)
        finally:
            await asyncio.to_thread(postgres_server.start)
        await until(lambda: _is(control, "toy", "succeeded"))
        events = await page(control.database, "toy", 0)
    numbers = [event.n for event in events if event.producer == "folder"]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_holder_whose_run_another_machine_has_taken_ends_its_processes(control: Control) -> None:
    folder = toy_run(control.settings.runs, patient, "toy")
    async with controlling(control):
        await until(lambda: _is(control, "toy", "cancelled"))
        await actions.resumed(control, ADMIN, "toy")
        await until((control.settings.runs / "begun").exists)
        await until(lambda: _is(control, "toy", "running"))
        async with control.database.write() as connection:
            elsewhere = {
                "holder_host": "another/boot/space",
                "epoch": run.c.epoch + 1,
                "lease_until": now() + 60,
            }
            await connection.execute(update(run).values(**elsewhere))
        await until(lambda: not list(of_run(folder)))
        await until(lambda: not folder.active())
    assert (control.settings.runs / "checkpointed").exists()
    assert await state_of(control, "toy") == "running"  # what it is now, its new holder says


async def test_what_there_is_no_room_for_waits_says_for_what_and_begins_when_there_is(
    control: Control,
) -> None:
    toy_run(control.settings.runs, patient, "first", slots=6)
    toy_run(control.settings.runs, quick, "second", slots=6)
    async with controlling(control):
        for name in ("first", "second"):
            await until(lambda name=name: _is(control, name, "cancelled"))
        await actions.resumed(control, ADMIN, "first")
        await until((control.settings.runs / "begun").exists)
        await actions.resumed(control, ADMIN, "second")
        await until(lambda: _says(control, "second", "waits for 6 slots of 6: run first has 6"))
        (control.settings.runs / "gate").touch()
        await until(lambda: _is(control, "second", "succeeded"))


async def _says(control: Control, name: str, why: str) -> bool:
    return (await runs.got(control, name)).why == why
