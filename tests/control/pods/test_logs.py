"""Logs page by page: numbered, filtered, of one attempt or all, and from whoever has them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from components.shared.runtime.tracking.spool import Spool
from pipelines.control.context import Control
from pipelines.control.errors import Refused
from pipelines.control.services import logs, pod_events
from pipelines.control.services.collector import FolderFollower
from pipelines.control.services.projection import record
from pipelines.control.store.events import NewEvent
from pipelines.control.store.plain_json import MAX_DATA
from pipelines.local.feed import TaskFeed
from pipelines.runs.events import LogEvent
from pipelines.runs.folder import RunFolder, TaskFolder
from pipelines.runs.log import EventLog, EventReader
from tests.control.pods.made import new_run

TASK = "cognate-trunk"


def told(n: int, lines: list[str], attempt: int = 1, task: str = TASK) -> NewEvent:
    data = {"kind": "log", "lines": lines, "source": "task", "end": 0}
    return NewEvent("logs", task, attempt, f"pod/{task}/p", n, 5.0 + n, data)


async def everything(control: Control, limit: int, **asked: object) -> list[logs.LogLine]:
    after, found = 0, []
    while True:
        page = await logs.lines(control, "r", TASK, after=after, limit=limit, **asked)  # type: ignore[arg-type]
        found += page.lines
        assert page.next >= after
        if not page.more:
            return found
        after = page.next


async def test_lines_are_numbered_through_events_and_pages(control: Control) -> None:
    await new_run(control)
    texts = [f"line {number}" for number in range(1, 48)]
    events = [told(n, texts[start : start + 7]) for n, start in enumerate(range(0, 47, 7), 1)]
    await record(control, "r", [*events, told(99, ["of another"], task="adas")])
    for limit in (1, 5, 7, 100):
        found = await everything(control, limit)
        assert [line.n for line in found] == list(range(1, 48))
        assert [line.text for line in found] == texts
    assert found[7].time == 7.0
    await record(control, "r", [told(50, ["and more"], attempt=2)])
    page = await logs.lines(control, "r", TASK, after=47)
    assert [(line.n, line.text, line.attempt) for line in page.lines] == [(48, "and more", 2)]
    assert (page.source, page.more, page.next) == ("chunks", False, 48)
    page = await logs.lines(control, "r", TASK, attempt=2)
    assert [(line.n, line.text) for line in page.lines] == [(1, "and more")]


async def test_lines_are_found_by_text_and_level_under_their_own_numbers(control: Control) -> None:
    await new_run(control)
    text = [
        f"step {number}" if number % 10 else f"WARNING: loss of step {number}" for number in range(1, 101)
    ]
    text[41] = "ValueError: no"
    text[42] = "CRITICAL error"
    await record(control, "r", [told(n, text[n * 10 - 10 : n * 10]) for n in range(1, 11)])
    assert [line.n for line in await everything(control, 3, level="warning")] == list(range(10, 101, 10))
    assert [line.n for line in await everything(control, 3, q="OF STEP 5")] == [50]
    assert [line.n for line in await everything(control, 3, level="error")] == [43]


async def test_what_nobody_told_is_read_from_the_folder(control: Control) -> None:
    await new_run(control, target="local", folder=str(control.settings.runs / "r"))
    page = await logs.lines(control, "r", TASK)
    assert (page.source, page.lines) == ("none", [])
    log: Path = control.settings.runs / "r" / "tasks" / "adas" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n")
    page = await logs.lines(control, "r", "adas", after=1)
    assert (page.source, [line.text for line in page.lines]) == ("folder", ["two"])
    assert (await logs.lines(control, "r", "../../secret")).source == "none"
    with pytest.raises(Refused):
        await logs.lines(control, "none")


async def test_a_hundred_thousand_lines_page_quickly(control: Control) -> None:
    await new_run(control)
    await record(control, "r", [told(n, [f"line {n * 200 + i}" for i in range(200)]) for n in range(500)])
    await logs.lines(control, "r", TASK)  # where its lines begin is known from now on
    began = time.monotonic()
    for after in range(0, 100_000, 10_000):
        page = await logs.lines(control, "r", TASK, after=after, limit=1000)
        assert [page.lines[0].n, page.lines[-1].n] == [after + 1, after + 1000]
    assert time.monotonic() - began < 10  # ten pages; a loaded machine is given time
    assert (await logs.lines(control, "r", TASK, after=99_999)).lines[0].text == "line 99999"


BURST = [
    f'step {number}: "loss" is {number / 7:.6f}, \x1b[31mgrün\x1b[0m \\ {"x" * (number % 40)}'
    for number in range(3000)
]
"""More than one event takes, of lines that grow when they become JSON."""


async def test_a_burst_of_lines_in_a_folder_is_told_whole(control: Control) -> None:
    folder = RunFolder(control.settings.runs / "r")
    await new_run(control, target="local", folder=str(folder.path), epoch=1)
    task = TaskFolder(folder.path, "adas")
    task.path.mkdir(parents=True)
    task.log.write_text("".join(f"{line}\n" for line in BURST))
    events = EventLog(folder.events, "r")
    TaskFeed(task, events, 0, 0).pump(1)
    events.close()

    await FolderFollower(control, "r", folder).collect(1)
    page = await logs.lines(control, "r", "adas", limit=10_000)
    assert [line.text for line in page.lines] == BURST

    text, begin = task.log.read_bytes(), 0
    for event in EventReader(
        folder.events
    ).read():  # whoever goes on from any of them loses and doubles nothing
        assert isinstance(event, LogEvent)
        part = text[begin : event.data.end].decode()
        assert part == "".join(f"{line}\n" for line in event.data.lines)
        assert len(json.dumps(event.data.lines)) < MAX_DATA
        begin = event.data.end
    assert begin == len(text)


async def test_a_burst_of_lines_of_a_pod_is_told_whole(control: Control) -> None:
    await new_run(control)
    spool = Spool()
    for line in BURST:
        spool.log(line)
    n = 0
    while items := spool.take(256 << 10):
        lines = [item.line(n + place) for place, item in enumerate(items, 1)]
        n += len(lines)
        await record(control, "r", pod_events.events_of(TASK, "p", lines, {}))
    page = await logs.lines(control, "r", TASK, limit=10_000)
    assert [line.text for line in page.lines] == BURST
