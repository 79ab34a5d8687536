"""A phase whose API is away, hangs or refuses: the same result, as fast, and all that it has told is in the log later."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.artifact import artifact
from components.shared.runtime.executor import main
from pipelines.control.context import Control
from pipelines.control.services.chunks import ChunkReader
from pipelines.control.settings import ControlSettings
from tests.contract.toy_phase import CONFIGS, Toy
from tests.control.pods.made import all_events, new_run
from tests.faulty_api import nowhere, serving


@pytest.fixture
def settings(tmp_path: Path) -> ControlSettings:
    return ControlSettings(runs=tmp_path / "runs")


@contextlib.contextmanager
def api(how: Any) -> Iterator[str]:
    """The address of an API that answers so."""
    if how == "absent":
        yield nowhere()
        return
    with serving(how) as server:
        yield server.url


def live(folder: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """The digest of what the toy makes."""
    for name in [name for name in os.environ if name.startswith(("FORGE_", "KFP_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    arguments = ["--output", str(folder), "toy.steps=20", "toy.threads=1"]
    assert main(Toy, arguments, configs=CONFIGS) == 0
    return artifact.read(folder).digest


@pytest.mark.parametrize("how", ["absent", "hang", "reset", 500, 401])
async def test_what_an_api_does_is_no_affair_of_the_phase(
    control: Control, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    await new_run(control)
    alone = live(tmp_path / "alone", monkeypatch)
    root = tmp_path / "store"
    with api(how) as url:
        began = time.monotonic()
        told = live(
            tmp_path / "told", monkeypatch, FORGE_API_URL=url, FORGE_RUN_TOKEN="fr_x", FORGE_PIPELINE_RUN="r",
            FORGE_RUN_ROOT=str(root), FORGE_TASK="cognate-trunk",
        )  # fmt: skip
        assert time.monotonic() - began < 30  # a hanging API would take four seconds of each try
    assert told == alone
    await ChunkReader(str(root)).collect(control, "r", everything=True)
    events = await all_events(control)
    assert [event.n for event in events] == list(range(1, len(events) + 1))
    assert events[0].data["status"] == "running" and events[-1].data["exit_code"] == 0
    assert {event.channel for event in events} == {"phase_progress", "metrics", "logs"}
    text = [line for event in events for line in event.data.get("lines", [])]
    assert any("published" in line for line in text)
