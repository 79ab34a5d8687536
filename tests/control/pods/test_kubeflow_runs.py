"""A run on Kubeflow from its submission to its end, as the control plane sees and steers it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from pipelines.control.context import Control
from pipelines.control.services import actions, adoption, logs, run_secret
from pipelines.control.services.controller import Controller
from pipelines.control.services.kubeflow_runs import KubeflowCarrier
from pipelines.control.services.planning import Asked
from pipelines.control.services.pools import Pools
from pipelines.control.services.submission import submitted
from pipelines.control.settings import ControlSettings
from pipelines.control.store.tables import api_key
from pipelines.kubeflow import compiled as compiling
from pipelines.kubeflow.http import NotFound
from pipelines.kubeflow.state import store as run_store
from tests.control.pods.cluster import TITLES, Cluster, Run
from tests.control.pods.made import all_events, line, new_run, row_of, state, tasks_of
from tests.control.runs.made import ADMIN, ALICE

REALLY_COMPILED = compiling.compiled


@functools.cache
def compiled_once(*range_: Any, **shape: Any) -> Any:
    """Compiled once for all tests; in a thread, as KFP looks at the whole stack at every setting of a task."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(REALLY_COMPILED, *range_, **shape).result()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "store")
    for name in ("TOKEN", "COOKIES", "CA"):
        monkeypatch.delenv(f"KFP_{name}", raising=False)
    for name in ("AWS_ENDPOINT_URL", "KUBERNETES_SERVICE_HOST", "KF_PIPELINES_SA_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KUBECONFIG", str(made.kubernetes.kubeconfig(tmp_path / "kubeconfig")))
    monkeypatch.setattr(run_store, "DEFAULT_ROOT", str(tmp_path / "store"))
    monkeypatch.setattr(compiling, "compiled", compiled_once)
    for server in (made.kubeflow, made.kubernetes):
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield made
    made.kubeflow.released.set()
    for server in (made.kubeflow, made.kubernetes):
        server.shutdown()
        server.server_close()


@pytest.fixture
def settings(tmp_path: Path, cluster: Cluster) -> ControlSettings:
    return ControlSettings(
        runs=tmp_path / "runs", kfp_host=cluster.kubeflow.host,
        pods_url="https://forge.example.com",
    )  # fmt: skip


@contextlib.asynccontextmanager
async def controlling(control: Control) -> AsyncIterator[None]:
    pools = Pools([], 2, 1 << 40, lambda: (1 << 40, {}))
    carrier = KubeflowCarrier(control, every=0.02)
    task = asyncio.create_task(Controller(control, {"kubeflow": carrier}, pools).serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(happens: Callable[[], Any]) -> None:
    """Wait for something; a test that waits for ever fails by its own limit."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        result = happens()
        if await result if asyncio.iscoroutine(result) else result:
            return
        await asyncio.sleep(0.03)
    raise AssertionError("it does not happen")


async def is_state(control: Control, wanted: str, name: str = "r") -> bool:
    return bool((await row_of(control, name))["state"] == wanted)


async def task_is(control: Control, title: str, wanted: str, attempt: int = 0) -> bool:
    task = (await tasks_of(control)).get(title)
    return task is not None and task["state"] == wanted and task["attempt"] >= attempt


async def adopted(control: Control, cluster: Cluster, **columns: Any) -> Run:
    """A run that KFP has and the database knows, at which nobody is."""
    run = cluster.add("r")
    request = Asked(target="kubeflow").model_dump(exclude={"dry_run"})
    await new_run(control, kfp_id=run.id, request=request, lease_until=0.0, **columns)
    return run


async def test_a_run_is_submitted_followed_and_ends(control: Control, cluster: Cluster) -> None:
    asked = Asked(profile="micro", end_phase="cognate", target="kubeflow", name="r", seed=7)
    await submitted(control, ALICE, asked)
    async with controlling(control):
        await until(lambda: is_state(control, "running"))
        [run] = cluster.runs.values()
        assert run.name == "r"
        [body] = cluster.kubeflow.bodies("/runs")
        assert body["runtime_config"]["parameters"]["seed"] == 7
        assert run.secrets == [run_secret.name_of("r")]
        secret = cluster.secret(run.secrets[0])
        assert secret and secret["url"] == "https://forge.example.com" and secret["token"].startswith("fr_")
        for name, title in TITLES.items():
            cluster.begin(run, name)
            cluster.tell(
                run, name, 1, state(1, started=5.0), line(2), line(3, "log", lines=[f"hello from {title}"])
            )
            if name == "cognate-trunk":
                await until(lambda: task_is(control, "cognate-trunk", "running", 1))
            cluster.tell(run, name, 2, state(4, "succeeded", exit_code=0, seconds=2.0, cpu_seconds=1.5))
            cluster.end(run, name)
        await until(lambda: is_state(control, "succeeded"))
    row = await row_of(control)
    assert (row["kfp_id"], row["error"], row["failing"]) == (run.id, None, "")
    tasks = await tasks_of(control)
    assert {tasks[title]["state"] for title in TITLES.values()} == {"succeeded"}
    assert tasks["cognate-trunk"]["status"]["cpu_seconds"] == 1.5
    events = await all_events(control)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len([event for event in events if event.producer.startswith("pod/")]) == 4 * len(TITLES)
    assert [one.n for one in events if one.producer == "kfp"] == list(
        range(1, sum(one.producer == "kfp" for one in events) + 1)
    )
    page = await logs.lines(control, "r", "quietstar")
    assert (page.source, [one.text for one in page.lines]) == ("chunks", ["hello from quietstar"])
    assert cluster.secret(run.secrets[0]) is None
    async with control.database.read() as connection:
        assert await connection.scalar(select(api_key.c.revoked).where(api_key.c.kind == "run"))


async def test_cancelled_is_said_when_no_pod_is_left(control: Control, cluster: Cluster) -> None:
    run = await adopted(control, cluster)
    cluster.begin(run, "cognate-trunk")
    async with controlling(control):
        await until(lambda: task_is(control, "cognate-trunk", "running"))
        await actions.cancelled(control, ADMIN, "r")
        await until(lambda: run.state == "CANCELING")
        looked = len(cluster.kubeflow.seen)
        await until(lambda: len(cluster.kubeflow.seen) > looked + 3)
        assert await is_state(control, "cancelling")
        cluster.end(run, "cognate-trunk", 143)
        await until(lambda: is_state(control, "cancelled"))
    assert run.state == "FAILED"  # as KFP calls it


async def test_a_failed_run_is_tried_again_where_it_failed(control: Control, cluster: Cluster) -> None:
    run = await adopted(control, cluster)
    async with controlling(control):
        cluster.begin(run, "cognate-trunk")
        cluster.tell(run, "cognate-trunk", 1, state(1), line(2, "log", lines=["it is not good"]))
        cluster.end(run, "cognate-trunk", 9)
        await until(lambda: is_state(control, "failed"))
        row = await row_of(control)
        assert row["failing"] == "cognate-trunk"
        assert "cognate-trunk" in row["error"]["what"]
        await actions.resumed(control, ADMIN, "r", only=("failed",))
        await until(lambda: run.state == "RUNNING")
        for name in TITLES:
            cluster.begin(run, name)
            cluster.end(run, name)
        await until(lambda: is_state(control, "succeeded"))
    row = await row_of(control)
    assert (row["failing"], row["error"]) == ("", None)
    assert (await tasks_of(control))["cognate-trunk"]["attempt"] == 2
    assert len(cluster.runs) == 1


async def test_a_lost_pod_is_said_and_its_task_goes_on_in_another(control: Control, cluster: Cluster) -> None:
    run = await adopted(control, cluster)
    async with controlling(control):
        cluster.begin(run, "cognate-trunk")
        cluster.tell(run, "cognate-trunk", 1, state(1), line(2))
        await until(lambda: task_is(control, "cognate-trunk", "running", 1))
        cluster.lose(run, "cognate-trunk")

        async def said() -> bool:
            texts = [text for one in await all_events(control) for text in one.data.get("lines", [])]
            return any("is gone before it has ended" in text for text in texts)

        await until(said)
        cluster.begin(run, "cognate-trunk")
        cluster.tell(run, "cognate-trunk", 1, state(1, attempt=2), line(2))
        await until(lambda: task_is(control, "cognate-trunk", "running", 2))
    producers = {one.producer for one in await all_events(control) if one.producer.startswith("pod/")}
    assert producers == {"pod/cognate-trunk/uid-cognate-trunk-0", "pod/cognate-trunk/uid-cognate-trunk-1"}


async def test_a_server_that_is_away_ends_nothing_and_another_holder_goes_on_counting(
    control: Control, cluster: Cluster
) -> None:
    run = await adopted(control, cluster)
    cluster.begin(run, "cognate-trunk")
    async with controlling(control):
        await until(lambda: task_is(control, "cognate-trunk", "running"))
        cluster.kubeflow.always = 503
        looked = len(cluster.kubeflow.seen)
        await until(lambda: len(cluster.kubeflow.seen) > looked + 2)
        assert await is_state(control, "running")
    cluster.kubeflow.always = None
    cluster.end(run, "cognate-trunk")
    async with controlling(control):
        await until(lambda: task_is(control, "cognate-trunk", "succeeded"))
    numbers = [one.n for one in await all_events(control) if one.producer == "kfp"]
    assert numbers == list(range(1, len(numbers) + 1))


async def test_a_run_that_kfp_does_not_know_any_more_is_lost(control: Control, cluster: Cluster) -> None:
    run = await adopted(control, cluster)
    del cluster.runs[run.id]
    async with controlling(control):
        await until(lambda: is_state(control, "lost"))
    assert "KFP does not know it" in (await row_of(control))["why"]


async def test_a_log_that_no_pod_has_told_comes_from_kfp_then_from_the_pod(
    control: Control, cluster: Cluster
) -> None:
    run = await adopted(control, cluster)
    cluster.begin(run, "cognate-trunk")
    name = cluster.pods_of(run.id)[0]["metadata"]["name"]
    cluster.kubernetes.logs[name] = "from the pod\n"
    page = await logs.lines(control, "r", "cognate-trunk")
    assert (page.source, [one.text for one in page.lines]) == ("pod", ["from the pod"])
    cluster.executor_logs(run, "cognate-trunk", 0, "first attempt\n")
    cluster.executor_logs(run, "cognate-trunk", 1, "second attempt\n")
    for attempt, text in ((1, "first attempt"), (2, "second attempt")):
        page = await logs.lines(control, "r", "cognate-trunk", attempt=attempt)
        assert (page.source, [one.text for one in page.lines]) == ("kfp", [text])
    assert (await logs.lines(control, "r", "quietstar")).source == "none"


async def test_a_run_that_forge_submit_has_started_is_taken_in_once(
    control: Control, cluster: Cluster
) -> None:
    run = cluster.add("agent-forge-20260801-micro")
    taken = await adoption.adopted(control, ALICE, run.id)
    assert (taken.id, taken.target, taken.origin, taken.owner) == (run.name, "kubeflow", "command", "alice")
    again = await adoption.adopted(control, ADMIN, f"{cluster.kubeflow.host}/#/runs/details/{run.id}")
    assert again.id == taken.id and again.owner == "alice"
    async with controlling(control):
        cluster.begin(run, "cognate-trunk")
        cluster.tell(run, "cognate-trunk", 1, state(1), line(2))

        async def told() -> bool:
            return any(one.producer.startswith("pod/") for one in await all_events(control, taken.id))

        await until(told)
    with pytest.raises(NotFound):
        await adoption.adopted(control, ALICE, "no such run")
