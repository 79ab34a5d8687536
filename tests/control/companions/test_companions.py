"""Runs tell others' servers: the real ones of memory and of files, and small ones for github and eva."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.errors import ConfigError
from pipelines.control.companions import companions_of, exports, memory
from pipelines.control.companions.benchmark import benchmarked
from pipelines.control.companions.following import Following
from pipelines.control.companions.servers import (
    Away,
    Eva,
    Filesystem,
    Github,
    Server,
    Servers,
    called,
    configured,
    connected,
)
from pipelines.local.options import RunOptions
from pipelines.local.plan import Plan, PlannedTask, RunRequest
from pipelines.runs.events import Event, Metrics, event_of
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus

SMALL = Path(__file__).with_name("small_server.py")


async def test_the_real_memory_keeps_each_state_of_a_phase_and_gives_back_the_newest(memory_server) -> None:
    server = Server(**memory_server)
    async with connected("memory", server) as client:
        assert await memory.recalled(client, ["bitnet", "adas"]) == {}
        await memory.persist_state(client, "bitnet", {"state": "failed", "run": "one"})
    async with connected("memory", server) as client:  # another process, later
        await memory.persist_state(client, "bitnet", {"state": "succeeded", "run": "two"})
        assert await memory.recalled(client, ["bitnet", "adas"]) == {
            "bitnet": {"state": "succeeded", "run": "two"}
        }
        node = (await called(client, "open_nodes", {"names": ["agent_forge.bitnet"]}))["entities"][0]
    assert (node["name"], node["entityType"]) == ("agent_forge.bitnet", "phase_state")
    assert [json.loads(text)["run"] for text in node["observations"]] == ["one", "two"]


async def test_the_real_filesystem_gets_files_within_its_roots_and_refuses_others(
    filesystem_server, tmp_path: Path
) -> None:
    server = Filesystem(**filesystem_server)
    async with connected("filesystem", server) as client:
        paths = await exports.to_files(
            client, server, "one", {"config.json": "{}", "report.html": "<p>é</p>"}
        )
        assert [Path(path).read_text() for path in paths] == ["{}", "<p>é</p>"]
        outside = server.model_copy(update={"root": tmp_path / "elsewhere"})
        with pytest.raises(Away, match="refuses"):
            await exports.to_files(client, outside, "one", {"config.json": "{}"})
    assert not (tmp_path / "elsewhere").exists()


def small(tmp_path: Path, *options: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(SMALL), str(tmp_path / "told.jsonl"), *options]}


def told(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("options", [(), ("tags",)])
async def test_a_run_is_committed_and_tagged_and_released_where_the_server_can(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    server = Github(**small(tmp_path, *options), repository="me/runs")
    async with connected("github", server) as client:
        made = await exports.to_github(client, server, "one", {"config.json": "{}"}, "succeeded")
    assert made == ["commit", "tag", "release"][: 3 if options else 1]
    commit, *more = told(tmp_path)
    assert commit["repository"] == "me/runs" and commit["files"] == {"runs/one/config.json": "{}"}
    assert [entry["tag"] for entry in more] == ["forge/one"] * (2 if options else 0)


async def test_a_model_is_measured_by_eva_and_the_result_kept(tmp_path: Path) -> None:
    server = Eva(**small(tmp_path))
    asked = {"model": "/m", "digest": "d" * 64, "phase": "adas", "run": "one"}
    async with connected("eva", server) as client:
        path = await benchmarked(client, server, tmp_path, asked)
    kept = json.loads(path.read_text())
    assert kept["result"] == {"score": 0.5, "suite": "small"} and kept["asked"] == asked


def a_plan(folder: Path, *, resume: bool = False) -> Plan:
    tasks = (
        PlannedTask("cognate-a", "cognate", "c", "run"),
        PlannedTask("cognate-b", "cognate", "c", "run"),
        PlannedTask("bitnet", "bitnet", "b", "run"),
        PlannedTask("adas", "adas", "a", "left out"),
    )
    status = RunStatus(folder.name, profile="tiny", seed=7)
    return Plan(RunRequest(), RunFolder(folder), None, status, RunOptions(resume=resume), tasks, None)  # type: ignore[arg-type]


def ended(name: str, phase: str, state: Any = "succeeded", **more: Any) -> TaskStatus:
    return TaskStatus(name, phase, phase, status=state, seconds=2.0, **more)


def happened(number: int, data: TaskStatus | Metrics) -> Event:
    task = data.task if isinstance(data, TaskStatus) else "bitnet"
    return event_of(data, id=number, time=1.0, run="one", task=task, attempt=1)


def test_a_phase_is_told_when_its_last_task_has_ended_and_read_back_when_the_run_goes_on(
    memory_server, tmp_path: Path
) -> None:
    said: list[str] = []
    companions = Following(Servers(memory=Server(**memory_server)), a_plan(tmp_path / "one"), said.append)
    endings = [
        ended("cognate-a", "cognate"),
        ended("cognate-b", "cognate", digests={"model": "d" * 64}),
        ended("bitnet", "bitnet", "failed", error="no memory"),
    ]
    lines = []
    for number, status in enumerate(endings, 1):
        companions(happened(number, status))
        path = tmp_path / "memory.jsonl"
        lines.append(path.read_text().count("agent_forge.") if path.exists() else 0)
    assert lines == [0, 1, 2]
    companions(happened(4, Metrics({"loss": 1.0}, stage="result")))
    companions(happened(5, ended("bitnet", "bitnet")))
    again = Following(
        Servers(memory=Server(**memory_server)), a_plan(tmp_path / "one", resume=True), said.append
    )
    states = again.recall()
    assert states["cognate"]["digests"] == {"cognate-b/model": "d" * 64}
    assert states["bitnet"]["state"] == "succeeded" and states["bitnet"]["metrics"] == {
        "bitnet": {"loss": 1.0}
    }
    assert said == ["memory: cognate succeeded in run one", "memory: bitnet succeeded in run one"]


def test_a_server_that_is_away_is_said_once_and_is_no_error(tmp_path: Path) -> None:
    said: list[str] = []
    companions = Following(
        Servers(memory=Server(command="/no/such/program")), a_plan(tmp_path / "one"), said.append
    )
    for number, phase in enumerate(("bitnet", "bitnet"), 1):
        companions(happened(number, ended(phase, phase, "failed")))
        companions(happened(number + 10, ended(phase, phase)))
    assert len(said) == 1 and "memory was not told" in said[0]


def test_they_are_off_and_a_configuration_that_is_none_is_refused_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORGE_MCP_CONFIG", raising=False)
    assert companions_of(a_plan(tmp_path / "one"), print) is None and configured({}) is None
    path = tmp_path / "servers.json"
    for content in (
        {"memory": {}},
        {"memory": {"command": "a", "url": "b"}},
        {"github": {"url": "https://x", "headers": {"Authorization": 7, "X": "secret-canary"}}},
        {"memroy": {"command": "a"}},
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ConfigError) as refusal:
            configured({"FORGE_MCP_CONFIG": str(path)})
        assert "secret-canary" not in str(refusal.value)
    path.write_text(json.dumps({"eva": {"command": "eva", "tool": "score"}}))
    found = configured({"FORGE_MCP_CONFIG": str(path)})
    assert found is not None and found.eva is not None and found.eva.tool == "score"


def test_a_server_gets_no_secret_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-canary")
    monkeypatch.setenv("GIVEN", "given")
    script = tmp_path / "prints.py"
    script.write_text(
        f"import os, json; open({str(tmp_path / 'env')!r}, 'w').write(json.dumps(dict(os.environ)))"
    )
    server = Server(command=sys.executable, args=(str(script),), env={"TOKEN": "${GIVEN}"})

    async def connect() -> None:
        async with connected("memory", server):
            pass

    with pytest.raises(Away):
        asyncio.run(connect())
    seen = json.loads((tmp_path / "env").read_text())
    assert seen["TOKEN"] == "given" and "secret-canary" not in str(seen)
