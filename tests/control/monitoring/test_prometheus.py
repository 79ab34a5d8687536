"""A real Prometheus reads a process that has seen a recorded run: every panel has data, and alerts go all the way round."""

from __future__ import annotations

import json
import os
import stat
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from pipelines.control.auth import keys, principals
from pipelines.control.monitoring.snapshot import watcher
from pipelines.control.services.projection import record
from pipelines.control.settings import ControlSettings
from pipelines.control.store.database import now
from pipelines.control.store.events import CHANNEL_OF, NewEvent
from pipelines.control.store.tables import execution, run
from pipelines.phases import PHASES
from tests.control.monitoring import programs
from tests.control.monitoring.conftest import SECRET

RECORDED = Path(__file__).with_name("recorded_run.jsonl")
NVIDIA_SMI = "#!/bin/sh\necho '0, 37, 10240, 143771'\necho '1, [N/A], [N/A], [N/A]'\n"
"""What the program says of an H200, and of a GPU that is cut up."""


async def seen(control: Any) -> str:
    """Put a recorded run into the log, all but its end, and another behind it; a key that may read metrics and more."""
    events = [json.loads(line) for line in RECORDED.read_text().splitlines()][:-1]
    new = [
        NewEvent(
            CHANNEL_OF[event["kind"]], event["task"], event["attempt"], "folder", event["id"], event["time"],
            {"kind": event["kind"], **event["data"]},
        )
        for event in events
    ]  # fmt: skip
    async with control.database.write() as connection:
        time = await connection.scalar(now().select())
        await connection.execute(insert(run), {"id": "recorded", "state": "starting", "created": time})
        await connection.execute(insert(run), {"id": "waits", "state": "queued", "created": time})
        owner = await principals.create(connection, "reader", "viewer")
        key = (await keys.make(connection, "key", principal=owner, name="prometheus")).text
    for start in range(0, len(new), 50):
        await record(control, "recorded", new[start : start + 50])
    async with control.database.write() as connection:
        lease = {"holder": "here", "lease_until": now() + 3600.0}
        await connection.execute(update(run).where(run.c.id == "recorded").values(**lease))
    return key


async def used(control: Any) -> None:
    """An event that comes now, and an answer of the playground."""
    time = await _time(control)
    data = {"kind": "log", "lines": ["still here"], "source": "runner", "end": 0}
    await record(control, "recorded", [NewEvent("logs", "", 0, "control", int(time * 1000), time, data)])
    control.meters.tokens.inc(12)
    control.meters.token_seconds.inc(0.5)


async def fails(control: Any) -> None:
    row = {
        "run": "recorded", "task": "adas", "attempt": 9, "phase": "adas", "profile": "micro", "seconds": 1.0,
        "succeeded": False, "exit_code": 9, "finished": await _time(control),
    }  # fmt: skip
    async with control.database.write() as connection:
        await connection.execute(insert(execution), row)


async def _time(control: Any) -> float:
    async with control.database.read() as connection:
        return float(await connection.scalar(now().select()))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[programs.Served, str, str]]:
    folder = tmp_path_factory.mktemp("monitoring")
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{program.parent}:{before}"
    settings = ControlSettings(
        role="api", runs=folder / "runs", port=0, webhook_secret=SECRET, rate_limit=100_000
    )
    try:
        with programs.served(settings) as process:
            key = process.run(seen(process.control))
            with programs.watching(folder, process.url, key, SECRET) as prometheus:
                yield process, prometheus, key
    finally:
        os.environ["PATH"] = before


def panels() -> list[tuple[str, str, str]]:
    """(dashboard, panel, query) of every file."""
    return [
        (path.stem, panel["title"], target["expr"])
        for path in sorted((programs.FOLDER / "dashboards").glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", ())
    ]


def test_every_panel_of_every_dashboard_has_data(stack: tuple[programs.Served, str, str]) -> None:
    process, prometheus, key = stack
    lacking = panels()
    assert len({board for board, _, _ in lacking}) == 7

    def look() -> bool:
        nonlocal lacking
        process.run(used(process.control))
        process.get("/metrics/report", key)
        with pytest.raises(urllib.error.HTTPError):
            process.get("/phases/runs/nobody", key)
        lacking = [each for each in lacking if not has_data(prometheus, each[2].replace("$run", ".+"))]
        return not lacking

    try:
        programs.until(look, "all have data", seconds=40.0)
    except AssertionError:
        pytest.fail(f"without data: {lacking}")


def has_data(prometheus: str, expression: str) -> bool:
    return any(sample["value"][1] != "NaN" for sample in programs.query(prometheus, expression))


def test_what_prometheus_has_read_is_what_happened(stack: tuple[programs.Served, str, str]) -> None:
    _, prometheus, _ = stack

    def value(expression: str) -> float:
        found = programs.until(lambda: programs.query(prometheus, expression), expression)
        return float(found[0]["value"][1])

    finished: dict[str, int] = {}
    for line in RECORDED.read_text().splitlines():
        event = json.loads(line)
        if (
            event["kind"] == "task"
            and event["data"]["status"] == "succeeded"
            and event["data"]["phase"] in PHASES
        ):
            finished[event["data"]["phase"]] = finished.get(event["data"]["phase"], 0) + 1
    assert len(finished) == 8
    for phase, count in finished.items():
        assert value(f"agent_forge_{phase}_latency_count") == count
        assert value(f'agent_forge_{phase}_progress{{run="recorded"}}') == 1.0
        assert value(f"agent_forge_{phase}_errors_total") == 0
    assert value('agent_forge_runs{state="running"}') == 1 and value("agent_forge_queue_length") == 1
    assert value("agent_forge_gpu_usage") == 0.37


def test_an_alert_goes_from_prometheus_through_alertmanager_to_the_page_and_to_the_queue(
    stack: tuple[programs.Served, str, str],
) -> None:
    process, prometheus, key = stack
    programs.until(lambda: programs.query(prometheus, "agent_forge_adas_errors_total == 0"), "a zero is read")
    process.run(fails(process.control))
    watcher(process.control)._taken = -1e9

    def shown() -> dict[str, Any]:
        answer = process.get("/system/alerts", key)
        posted = {alert["name"]: alert for alert in answer["alerts"] if alert["source"] == "alertmanager"}
        return posted if {"phase_failed", "high_memory_usage"} <= set(posted) and answer["hold"] else {}

    posted = programs.until(shown, "both alerts are shown, and new runs are held")
    assert posted["phase_failed"]["labels"]["phase"] == "adas" and posted["phase_failed"]["state"] == "firing"
    assert posted["phase_failed"]["runbook"] == "docs/control/runbooks.md#phase_failed"
    assert posted["high_memory_usage"]["labels"]["action"] == "scale_resources"


def test_prometheus_reads_nothing_without_a_key(stack: tuple[programs.Served, str, str]) -> None:
    process, _, _ = stack
    with pytest.raises(urllib.error.HTTPError, match="401"):
        process.get("/metrics/prometheus", "fk_nobody")
