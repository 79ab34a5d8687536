"""Every place of the page, dark and light, on a phone and a desk: axe finds nothing, nothing is wider than the screen."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from pipelines.control.context import opened
from pipelines.control.services.projection import record
from pipelines.control.settings import ControlSettings
from pipelines.control.store.events import CHANNEL_OF, NewEvent
from pipelines.control.store.tables import run as runs
from tests.control.page import axe
from tests.control.page.conftest import Visit
from tests.control.page.serving import Server

TABS = ("timeline", "logs", "metrics", "evolution", "lineage", "settings", "events")
PLACES = [
    "/ui/runs",
    "/ui/runs?state=lost&profile=full",
    *(f"/ui/runs/measured?tab={tab}" for tab in TABS),
    "/ui/runs/nowhere",
    "/ui/compare",
    "/ui/compare?runs=measured,failed",
    "/ui/compare?runs=measured,failed&tab=settings",
    "/ui/models",
    "/ui/models/" + "0" * 64,
    "/ui/new",
    "/ui/playground",
    *(f"/ui/system?tab={tab}" for tab in ("queue", "pools", "jobs", "alerts", "keys", "audit", "server")),
    "/ui/elsewhere",
]
TASK = {"task": "bitnet", "phase": "bitnet", "component": "bitnet", "attempts": 2, "started": 1e9}


def events(state: str) -> list[NewEvent]:
    """What a run says that has a task with two attempts, a curve, coloured lines and an end."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("task", {**TASK, "status": "running"}),
        ("progress", {"stage": "training", "step": 3, "total": 9, "eta": 4.0}),
        *(
            ("metric", {"values": {"loss": 3 / step, "success": 0.6}, "stage": "training", "step": step})
            for step in range(1, 9)
        ),
        ("log", {"lines": ["\x1b[32mfine\x1b[0m", "WARNING hot", "ERROR broken"], "source": "task", "end": 40}),
        ("error", {"what": "the disk is full", "why": "no space", "fix": "make some"}),
        ("task", {**TASK, "status": state, "finished": 1e9 + 60, "seconds": 60.0, "error": "the disk is full"}),
    ]  # fmt: skip
    return [
        NewEvent(CHANNEL_OF[kind], "bitnet", 2, "made", number, 1e9 + number, {"kind": kind, **data})
        for number, (kind, data) in enumerate(kinds, 1)
    ]


@pytest.fixture(scope="module")
def measured(server: Server) -> None:
    """Two runs that have ended, with all that the page can show of one."""

    async def make() -> None:
        async with opened(ControlSettings(runs=server.runs)) as control:
            for name, state in (("measured", "succeeded"), ("failed", "failed")):
                row = {
                    "id": name, "state": state, "profile": "micro", "seed": 1, "created": 1e9, "started": 1e9,
                    "finished": 1e9 + 60, "why": "the disk is full" if state == "failed" else "", "failing": "bitnet",
                    "parameters": {"bitnet_settings": json.dumps({"bitnet": {"steps": len(name)}})},
                }  # fmt: skip
                async with control.database.write() as connection:
                    await connection.execute(insert(runs).values(row))
                await record(control, name, events(state))

    asyncio.run(make())


def test_axe_finds_nothing_anywhere(server: Server, measured: None, visit: Visit, tmp_path: Path) -> None:
    page = visit()
    axe.prepare(page)
    found = [line for place in PLACES for line in axe.wrong(page, place)]
    assert not found, "\n".join(found)


def test_axe_finds_nothing_in_dialogs_and_at_the_door(server: Server, measured: None, visit: Visit) -> None:
    looked = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit(path="/ui/runs/measured")
    page.get_by_role("heading", name="measured").wait_for()
    for open_it, name in (
        (lambda: page.get_by_role("button", name="Delete").click(), "Delete this run"),
        (lambda: page.keyboard.press("?"), "What the keys do"),
        (lambda: page.keyboard.press("Control+k"), "Go to or do"),
    ):
        open_it()
        page.get_by_role("dialog", name=name).wait_for()
        assert not [violation["id"] for violation in looked.run(page).response["violations"]], name
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="hidden")
    page.goto(f"{server.address}/ui/login")
    page.get_by_role("heading", name="Log in to Agent Forge").wait_for()
    assert not [violation["id"] for violation in looked.run(page).response["violations"]]
