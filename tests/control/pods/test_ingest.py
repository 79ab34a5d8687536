"""What pods send: their own run's events and nothing else, and what comes by both ways counts once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from components.shared.runtime.errors import StoreError
from components.shared.runtime.tracking.reporter import Reporter
from pipelines.control.api.app import application
from pipelines.control.auth import keys
from pipelines.control.context import Control
from pipelines.control.services.chunks import ChunkReader
from pipelines.control.settings import ControlSettings
from tests.control.pods.made import all_events, leave, line, new_run, row_of, state


@pytest.fixture
async def served(settings: ControlSettings) -> AsyncIterator[Any]:
    """An API in this process; its client, and the process."""
    app = application(settings)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8083") as client:
            client.control = app.state.control
            yield client


async def token(control: Control, name: str = "r") -> dict[str, str]:
    async with control.database.write() as connection:
        return {"Authorization": f"Bearer {await keys.run_token(connection, name)}"}


def told(*lines: dict[str, Any], task: str = "cognate-trunk", process: str = "p") -> dict[str, Any]:
    return {"task": task, "process": process, "lines": list(lines)}


async def test_a_pod_tells_of_its_own_run_under_either_name(served: Any) -> None:
    await new_run(served.control, kfp_id="91db5f79-d1b0-4594-95fb-5f0c48db45d5")
    await new_run(served.control, "other")
    mine = await token(served.control)
    for name in ("r", "91db5f79-d1b0-4594-95fb-5f0c48db45d5"):
        answer = await served.post(f"/events/{name}", json=told(state(1), line(2)), headers=mine)
        assert answer.status_code == 202, answer.text
    assert answer.json() == {"new": 0}
    assert [event.n for event in await all_events(served.control)] == [1, 2]
    for name in ("other", "none"):
        answer = await served.post(f"/events/{name}", json=told(line(3)), headers=mine)
        assert answer.status_code == 404
    answer = await served.get("/phases/runs", headers=mine)
    assert answer.status_code in (403, 404)


@pytest.mark.parametrize(
    "body",
    [
        told(line(0 + 1) | {"n": 0}),
        told(line(1) | {"time": "soon"}),
        told(line(1, "log", lines="text")),
        told(line(1, "state", state="done")),
        told(line(1), task="../up"),
        told(line(1), process="a/b"),
        {**told(line(1)), "more": 1},
        [],
    ],
)
async def test_what_is_no_chunk_is_refused(served: Any, body: Any) -> None:
    await new_run(served.control)
    answer = await served.post("/events/r", json=body, headers=await token(served.control))
    assert answer.status_code == 422
    assert await all_events(served.control) == []


async def test_a_line_that_cannot_be_understood_is_refused_by_its_number_and_no_other(served: Any) -> None:
    await new_run(served.control)
    mine = await token(served.control)
    chunk = told(state(1), line(2, "log", lines="text"), line(3), line(4, "progress", stage="fit"), line(5))
    answer = await served.post("/events/r", json=chunk, headers=mine)
    assert answer.status_code == 202
    said = answer.json()
    assert (said["new"], said["refused"]) == (3, 2)
    assert "line 2: lines" in said["why"] and "line 4: step" in said["why"]
    assert [event.n for event in await all_events(served.control)] == [1, 3, 5]
    answer = await served.post("/events/r", json=told(line(6, "log", lines="text")), headers=mine)
    assert answer.status_code == 422 and "line 6: lines" in answer.json()["why"]


async def test_the_token_ends_with_its_run(served: Any) -> None:
    await new_run(served.control, state="succeeded")
    answer = await served.post("/events/r", json=told(line(1)), headers=await token(served.control))
    assert answer.status_code == 401


async def test_eight_producers_by_both_ways_shuffled_and_doubled_count_once(
    served: Any, tmp_path: Path
) -> None:
    await new_run(served.control)
    mine = await token(served.control)
    random.seed(3)
    posts: list[dict[str, Any]] = []
    for pod in range(8):
        task, process = f"evomerge-round-1-worker-{pod}", f"pod-{pod}"
        lines = [line(n, "log" if n % 5 else "metric") for n in range(1, 101)]
        for number, start in enumerate(range(0, 100, 33), 1):
            leave(tmp_path, number, lines[start : start + 33], task, process)
        posts += [told(*lines[start : start + 20], task=task, process=process) for start in range(0, 100, 20)]
    posts += posts[:10]
    random.shuffle(posts)
    taken: list[int] = []

    async def post(bodies: list[dict[str, Any]]) -> None:
        for body in bodies:
            answer = await served.post("/events/r", json=body, headers=mine)
            assert answer.status_code == 202, answer.text
            taken.append(answer.json()["new"])

    async def collect() -> None:
        taken.append(await ChunkReader(str(tmp_path)).collect(served.control, "r"))

    await asyncio.gather(post(posts[::2]), collect(), post(posts[1::2]), collect())
    events = await all_events(served.control)
    assert [event.seq for event in events] == list(range(1, 801))
    assert sum(taken) == 800
    by_producer: dict[str, set[int]] = {}
    for event in events:
        by_producer.setdefault(event.producer, set()).add(event.n)
    assert len(by_producer) == 8
    assert all(numbers == set(range(1, 101)) for numbers in by_producer.values())
    assert (await row_of(served.control))["last_seq"] == 800


async def test_what_a_reporter_sends_over_http_is_what_it_leaves_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ControlSettings(runs=tmp_path / "runs")
    app = application(settings)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.02)
    control = app.state.control
    await new_run(control)
    port = server.servers[0].sockets[0].getsockname()[1]
    monkeypatch.setenv("FORGE_API_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("FORGE_RUN_TOKEN", (await token(control))["Authorization"].removeprefix("Bearer "))
    monkeypatch.setenv("FORGE_TASK", "cognate-trunk")

    def live() -> None:
        with Reporter("cognate", print) as report:
            report.open("", "r")
            report.trying(1)
            report.progress(
                {"time": 5.0, "stage": "fit", "step": 3, "total": 9, "metrics": {"loss": 0.5}, "eta": 1.0}
            )
            report.spool.log("NUL \0 and half a character \ud800", attempt=1)
            report.failed(StoreError("the disk is full \ud800", fix="free some"), 5)
            report.ended(5)

    await asyncio.to_thread(live)
    events = await all_events(control)
    kinds = [event.data["kind"] for event in events]
    assert kinds == ["task", "progress", "metric", "log", "error", "task"]
    assert [event.n for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[3].data["lines"] == ["NUL \ufffd and half a character ?"]
    assert (
        events[-1].data["exit_code"] == 5 and events[-1].data["status"] == "running"
    )  # KFP has the last word
    server.should_exit = True
    await serving
