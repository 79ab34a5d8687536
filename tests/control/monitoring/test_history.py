"""What the database knows of finished tasks: the same on every replica and after every start, on both databases."""

from __future__ import annotations

import time
from dataclasses import replace

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import delete, insert

from components.shared.runtime.errors import GateFailed, StoreError
from pipelines.control.context import Control, opened
from pipelines.control.monitoring import history
from pipelines.control.monitoring.exposition import Page
from pipelines.control.monitoring.history import History
from pipelines.control.monitoring.snapshot import Snapshot, Watcher
from pipelines.control.services.metrics import Point, record_points
from pipelines.control.store.database import Database
from pipelines.control.store.tables import execution
from pipelines.phases import PHASES


def ended(
    task: str, phase: str, seconds: float, *, attempt: int = 1, code: int | None = None, ago: float = 0.0
):
    return {
        "run": "demo", "task": task, "attempt": attempt, "phase": phase, "seconds": seconds,
        "succeeded": code is None, "exit_code": code, "finished": time.time() - ago,
    }  # fmt: skip


def tasks() -> list[dict[str, object]]:
    """As of now: what was made when this file was read is not recent any more, where many tests run before these."""
    return [
        ended("one", "bitnet", 0.5),
        ended("two", "bitnet", 20.0, attempt=2),
        ended("three", "bitnet", 100_000.0, attempt=3, ago=3600.0),
        ended("two", "bitnet", 3.0, code=StoreError.exit_code),
        ended("three", "bitnet", 3.0, code=GateFailed.exit_code, ago=3600.0),
        ended("three", "bitnet", 3.0, attempt=2, code=GateFailed.exit_code),
        ended("four", "adas", 7.0),
    ]


async def written(control: Control) -> None:
    async with control.database.write() as connection:
        await connection.execute(insert(execution), [{"profile": "", **task} for task in tasks()])


def samples(snapshot: Snapshot) -> dict[tuple[str, str, str], float]:
    """(name, phase, le) → value, as a reader of the page understands it."""
    families = text_string_to_metric_families(generate_latest(Page(snapshot)).decode())  # type: ignore[arg-type]
    return {
        (sample.name, sample.labels.get("phase", ""), sample.labels.get("le", "")): sample.value
        for family in families
        for sample in family.samples
    }


async def test_every_phase_has_its_three_metrics_by_their_names_before_anything_has_run(
    control: Control,
) -> None:
    said = generate_latest(Page(await Watcher(control).look())).decode()  # type: ignore[arg-type]
    kinds = {family.name: family.type for family in text_string_to_metric_families(said)}
    for phase in PHASES:
        assert kinds[f"agent_forge_{phase}_progress"] == "gauge"
        assert kinds[f"agent_forge_{phase}_latency"] == "histogram"
        assert kinds[f"agent_forge_{phase}_errors"] == "counter"
        assert f'agent_forge_{phase}_errors_total{{phase="{phase}"}} 0.0' in said


async def test_times_errors_retries_and_gates_are_counted(control: Control) -> None:
    await written(control)
    found = samples(await Watcher(control).look())
    assert found["agent_forge_bitnet_latency_count", "bitnet", ""] == 3
    assert found["agent_forge_bitnet_latency_sum", "bitnet", ""] == 100_020.5
    buckets = [found["agent_forge_bitnet_latency_bucket", "bitnet", str(bound)] for bound in history.BUCKETS]
    assert buckets == [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3]
    assert found["agent_forge_bitnet_latency_bucket", "bitnet", "+Inf"] == 3
    assert found["agent_forge_bitnet_errors_total", "bitnet", ""] == 3
    assert found["agent_forge_retries_total", "bitnet", ""] == 3
    assert found["agent_forge_gate_failures_total", "bitnet", ""] == 2
    assert found["agent_forge_adas_latency_count", "adas", ""] == 1
    assert found["agent_forge_cognate_errors_total", "cognate", ""] == 0


async def test_what_is_recent_is_told_from_what_was(control: Control) -> None:
    await written(control)
    past = (await Watcher(control).look()).past["bitnet"]
    assert (past.recent_errors, past.recent_gates, past.recent_retries) == (2, 1, 2)


async def test_a_replica_and_a_process_that_was_started_again_say_the_same(control: Control) -> None:
    await written(control)
    first = await Watcher(control).look()
    async with opened(control.settings) as other:
        second = await Watcher(other).look()
    assert first.past == second.past


async def test_a_database_that_does_not_answer_is_said_and_its_figures_are_left_out_not_zero(
    control: Control,
) -> None:
    elsewhere = Database("postgresql://nobody@127.0.0.1:9/none")
    elsewhere.failed = control.meters.store_errors.labels("database").inc
    found = samples(await Watcher(replace(control, database=elsewhere)).look())
    assert control.meters.store_errors.labels("database")._value.get() >= 1
    assert found["agent_forge_up", "", ""] == 0.0
    assert not [name for name, _, _ in found if name.startswith("agent_forge_bitnet")]
    assert ("agent_forge_memory_usage", "", "") in found


async def test_what_comes_late_into_the_past_and_what_is_taken_out_of_it_is_counted(control: Control) -> None:
    read = History().read
    await written(control)
    async with control.database.write() as connection:
        assert (await read(connection))["bitnet"].errors == 3
        late = {"profile": "", **ended("five", "bitnet", 2.0, code=StoreError.exit_code, ago=3000.0)}
        await connection.execute(insert(execution), late)
        found = (await read(connection))["bitnet"]
        assert (found.errors, found.stores, found.recent_errors) == (4, 2, 2)
        await connection.execute(insert(execution), {**late, "task": "six", "finished": time.time()})
        assert (await read(connection))["bitnet"].errors == 5
        await connection.execute(delete(execution).where(execution.c.task == "three"))
        assert (await read(connection))["bitnet"].errors == 3


async def test_gates_of_published_results_are_counted_phase_by_phase(control: Control) -> None:
    async with control.database.write() as connection:
        for run, failed in (("a", 1.0), ("b", 0.0)):
            points = [Point("gates_passed", 0, 2.0, 1.0), Point("gates_failed", 0, failed, 1.0)]
            await record_points(connection, run, "evomerge", "evomerge", points)
    look = await Watcher(control).look()
    text = generate_latest(Page(look)).decode()  # type: ignore[arg-type]
    assert 'agent_forge_gates_total{phase="evomerge",result="passed"} 4.0' in text
    assert 'agent_forge_gates_total{phase="evomerge",result="failed"} 1.0' in text
    assert 'agent_forge_gates_total{phase="bitnet",result="failed"} 0.0' in text
