"""A model of the catalogue, and the folder of a run."""

from __future__ import annotations

import json
from pathlib import Path

from components.shared.runtime.artifact.artifact import seal
from pipelines.control.context import Control
from pipelines.control.services.models import register
from tests.unit.shared.runtime.artifact.cases import write_model


async def publish_small(control: Control, folder: Path, *, card: str) -> str:
    """Its digest."""
    write_model(folder)
    (folder / "README.md").write_text(card)
    manifest = seal(folder, kind="model", phase="bitnet")
    async with control.database.write() as connection:
        await register(connection, manifest, str(folder), "", "bitnet", owner="")
    return manifest.digest


def finished_run(folder: Path) -> Path:
    """A run that has ended before any task did."""
    folder.mkdir(parents=True)
    (folder / "tasks").mkdir()
    info = {
        "name": folder.name,
        "status": "failed",
        "profile": "tiny",
        "seed": 0,
        "started": 1.0,
        "finished": 2.0,
    }
    (folder / "run.json").write_text(json.dumps(info))
    return folder
