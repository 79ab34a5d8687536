"""Small real artifacts, and whoever asks for them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from safetensors.numpy import save_file
from starlette.requests import HTTPConnection

from components.shared.runtime.artifact.artifact import seal
from components.shared.runtime.artifact.manifest import Manifest
from pipelines.control.api.app import application
from pipelines.control.auth.rights import Principal
from pipelines.control.context import Control
from pipelines.control.services.models import register
from pipelines.control.settings import ControlSettings

ALICE = Principal("alice", "Alice", "operator")
BOB = Principal("bob", "Bob", "operator")
EVE = Principal("eve", "Eve", "viewer")
ADMIN = Principal("root", "Root", "admin")


def artifact(
    folder: Path,
    *,
    phase: str = "bitnet",
    parents: Sequence[str] = (),
    score: float | None = 0.5,
    finished: float = 1000.0,
    tensors: int = 3,
    extra: dict[str, Any] | None = None,
    mark: float = 0.0,
) -> Manifest:
    """A sealed model: one coded tensor, and some that are not.

    :param mark: what its weights are, so that two may differ.
    """
    folder.mkdir(parents=True)
    weights: dict[str, Any] = {
        f"model.layers.{number}.norm.weight": np.full(4, mark, np.float32) for number in range(tensors - 1)
    }
    weights["model.layers.0.mlp.up_proj.code"] = np.zeros(16, np.uint8)
    save_file(weights, folder / "model.safetensors")
    storage = {"model.layers.0.mlp.up_proj": {"codec": "scalar", "shape": [8, 8]}}
    (folder / "config.json").write_text(json.dumps({"model_type": "cognate", "storage": storage}))
    scored = {"score": score, "low": 0.4, "high": 0.6, "n": 24, "chance": 0.1}
    return seal(
        folder,
        kind="model",
        phase=phase,
        parents=parents,
        config={"profile": "micro", phase: {"register_as": ""}},
        scores={"memory": scored, "safety": scored} if score is not None else {},
        gates=[{"metric": "loss", "value": 1.0, "op": "<=", "bound": 2.0, "passed": True, "on_fail": "stop"}],
        timing={"started": finished - 10, "seconds": 10.0},
        extra=extra or {},
    )


async def catalogued(
    control: Control, folder: Path, run: str = "", task: str = "", owner: str = "", **said: Any
) -> Manifest:
    """The same, in the catalogue."""
    manifest = artifact(folder, **said)
    async with control.database.write() as connection:
        await register(connection, manifest, str(folder), run, task, owner=owner)
    return manifest


@contextlib.asynccontextmanager
async def asking(settings: ControlSettings, who: Principal) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an application with these settings, which takes it for `who`."""
    app = application(settings)

    async def find(connection: HTTPConnection) -> Principal:
        return who

    async with app.router.lifespan_context(app):
        app.state.find_principal = find
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=120
        ) as client:
            yield client
