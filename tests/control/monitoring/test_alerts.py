"""What GET /system/alerts and the metrics say, and who may ask."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert

from components.shared.runtime.errors import GateFailed
from pipelines.control.context import Control
from pipelines.control.monitoring import conditions, lag
from pipelines.control.monitoring.machine import Machine
from pipelines.control.monitoring.snapshot import Snapshot, watcher
from pipelines.control.store.tables import event, execution, phase_execution, run, series
from tests.control.monitoring.conftest import SECRET, Maker
from tests.control.monitoring.test_webhook import ALERT, POST


def at_work(name: str, **given: Any) -> dict[str, Any]:
    return {"id": name, "state": "running", "created": time.time() - 60.0, **given}


async def names(control: Control) -> dict[str, conditions.Alert]:
    watcher(control)._taken = -1e9  # a look is good for five seconds
    found = conditions.evaluate(await watcher(control).look(), time.time())
    return {alert.name: alert for alert in found if alert.name not in ("high_memory_usage", "disk_full")}


async def test_nothing_is_wrong_with_an_empty_database(control: Control) -> None:
    assert not await names(control)


async def test_a_full_machine_is_said() -> None:
    full = Snapshot(Machine(0.81, 2**30, 0.0, 0.91, 10), {"database": True})
    assert [alert.name for alert in conditions.evaluate(full, 0.0)] == ["high_memory_usage", "disk_full"]
    almost = Snapshot(Machine(0.8, 2**30, 1.0, 0.9, 10), {"database": True})
    assert not conditions.evaluate(almost, 0.0)


async def test_failures_gates_and_repetitions_are_said_of_their_phase(control: Control) -> None:
    rows = [
        {"run": "demo", "task": f"t{number}", "attempt": number, "phase": "adas", "seconds": 1.0,
         "succeeded": False, "exit_code": GateFailed.exit_code, "finished": time.time()}
        for number in range(1, 8)
    ]  # fmt: skip
    async with control.database.write() as connection:
        await connection.execute(insert(execution), rows)
    found = await names(control)
    assert set(found) == {"phase_failed", "gate_failed", "retry_storm"}
    assert all(alert.labels == {"phase": "adas"} for alert in found.values())


async def test_a_phase_that_takes_longer_than_it_did_is_said_after_more_than_ten(control: Control) -> None:
    rows = [
        {"run": f"r{number}", "phase": "bitnet", "profile": "tiny", "seconds": 10.0 if number < 10 else 25.0,
         "cpu_seconds": 1.0, "memory_bytes": 1, "failures": 0, "succeeded": True, "finished": float(number)}
        for number in range(20)
    ]  # fmt: skip
    async with control.database.write() as connection:
        await connection.execute(insert(phase_execution), rows[:10])
    assert "phase_degraded" not in await names(control)
    async with control.database.write() as connection:
        await connection.execute(insert(phase_execution), rows[10:])
    alert = (await names(control))["phase_degraded"]
    assert alert.summary == "bitnet takes 2.5 times as long as it did" and alert.labels["profile"] == "tiny"


async def test_silence_lost_leases_lost_runs_and_a_queue_that_stands_are_said(control: Control) -> None:
    now = time.time()
    async with control.database.write() as connection:
        for row in (
            at_work("quiet", last_seq=1),
            at_work("left", state="starting", holder="gone", lease_until=now - 60.0),
            {"id": "lost", "state": "lost", "created": now, "finished": now},
        ):
            await connection.execute(insert(run), row)
        await connection.execute(
            insert(event),
            {
                "run": "quiet",
                "seq": 1,
                "time": now - 1000.0,
                "channel": "global",
                "producer": "folder",
                "n": 1,
                "data": {},
            },
        )
    found = await names(control)
    assert found["stuck_progress"].labels == {"run": "quiet"} and found["lease_expired"].labels == {
        "run": "left"
    }
    assert "run_lost" in found and "queue_stuck" not in found


async def test_a_queue_that_stands_is_said_only_where_nothing_goes_on(control: Control) -> None:
    async with control.database.write() as connection:
        await connection.execute(insert(run), at_work("waits", state="queued", created=time.time() - 3600.0))
    assert "queue_stuck" in await names(control)
    async with control.database.write() as connection:
        await connection.execute(insert(run), at_work("goes on"))
    assert "queue_stuck" not in await names(control)


async def test_a_living_runs_progress_and_metrics_are_exported_and_an_old_ones_are_not(
    control: Control, client: httpx2.AsyncClient, key_of: Maker
) -> None:
    async with control.database.write() as connection:
        strip = {"phases": {"bitnet": {"state": "running", "share": 0.25}}}
        await connection.execute(insert(run), at_work("living", **strip))
        await connection.execute(
            insert(run), at_work("old", state="succeeded", finished=time.time() - 901.0, **strip)
        )
        rows = [
            {"run": name, "task": "bitnet", "phase": "bitnet", "name": f"train: m{number}", "step": 1.0, "value": 2.5,
             "time": float(number)}
            for name in ("living", "old") for number in range(301)
        ]  # fmt: skip
        await connection.execute(insert(series), rows)
    key = await key_of("viewer", scopes=["metrics:read"])
    said = (await client.get("/metrics/prometheus", headers={"Authorization": f"Bearer {key}"})).text
    assert 'agent_forge_bitnet_progress{phase="bitnet",run="living"} 0.25' in said
    assert 'agent_forge_metric{name="train: m300",phase="bitnet",run="living"} 2.5' in said
    assert 'run="old"' not in said
    assert said.count("agent_forge_metric{") == 300 and "agent_forge_metrics_left_out 1.0" in said


async def test_who_may_read_metrics(client: httpx2.AsyncClient, key_of: Maker) -> None:
    asked = {"none": {}, "other scope": {"X-API-Key": await key_of("viewer", scopes=["phases:read"])}}
    for name, headers in asked.items():
        status = (await client.get("/metrics/prometheus", headers=headers)).status_code
        assert status == (401 if name == "none" else 403)


async def test_every_answer_is_counted_by_its_template_and_no_address_makes_a_series(
    control: Control, client: httpx2.AsyncClient, key_of: Maker
) -> None:
    headers = {"X-API-Key": await key_of("viewer")}
    for number in range(3):
        await client.get(f"/phases/runs/nobody-{number}", headers=headers)
        await client.get(f"/nowhere/{number}")
        await client.request("WEIRD", "/healthz")
    requests = control.meters.requests
    count = {labels: child._value.get() for labels, child in requests._metrics.items()}
    assert count["GET", "/phases/runs/{run_id}", "404"] == 3 or count["GET", "/phases/runs/{id}", "404"] == 3
    assert count["GET", "none", "404"] == 3
    assert not [labels for labels in count if "nobody" in str(labels) or "WEIRD" in str(labels)]


async def test_how_late_the_newest_event_is_is_measured(control: Control) -> None:
    async with control.database.write() as connection:
        await connection.execute(insert(run), at_work("demo", last_seq=1))
        await connection.execute(
            insert(event),
            {
                "run": "demo",
                "seq": 1,
                "time": time.time() - 2.0,
                "channel": "global",
                "producer": "folder",
                "n": 1,
                "data": {},
            },
        )
    await lag.observe(control, "demo")
    await lag.observe(control, "nobody")
    assert 1.5 < control.meters.lag._sum.get() < 30.0


async def test_what_was_posted_is_shown_beside_what_is_seen_here(
    client: httpx2.AsyncClient, key_of: Maker
) -> None:
    token = {"Authorization": f"Bearer {SECRET}"}
    assert (await client.post("/system/alerts", json=POST, headers=token)).status_code == 204
    resolved = {**POST, "alerts": [{**ALERT, "status": "resolved"}]}
    assert (await client.post("/system/alerts", json=resolved, headers=token)).status_code == 204
    headers = {"X-API-Key": await key_of("viewer")}
    shown = (await client.get("/system/alerts", headers=headers)).json()
    theirs = [alert for alert in shown["alerts"] if alert["source"] == "alertmanager"]
    assert [(alert["name"], alert["state"], alert["summary"]) for alert in theirs] == [
        ("high_memory_usage", "resolved", "81% is in use")
    ]
    assert shown["hold"] is None
    await client.post("/system/scale", json=POST, headers=token)
    assert (await client.get("/system/alerts", headers=headers)).json()["hold"]["why"] == "81% is in use"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_alerts_that_are_posted_without_end_take_no_room_without_end(
    control: Control, client: httpx2.AsyncClient, key_of: Maker
) -> None:
    for start in range(0, 800, 200):
        many = [{**ALERT, "fingerprint": f"{number:016x}"} for number in range(start, start + 200)]
        posted = await client.post(
            "/system/alerts", json={**POST, "alerts": many}, headers={"Authorization": f"Bearer {SECRET}"}
        )
        assert posted.status_code == 204
    shown = (await client.get("/system/alerts", headers={"X-API-Key": await key_of("viewer")})).json()
    assert len([alert for alert in shown["alerts"] if alert["source"] == "alertmanager"]) == 500
