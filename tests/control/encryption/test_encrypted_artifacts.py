"""A model in an encrypted store is published, read back, catalogued and downloaded as any other."""

from __future__ import annotations

import os
import time
from pathlib import Path

import httpx2
import pytest

from components.shared.runtime.artifact.artifact import read, seal
from components.shared.runtime.artifact.publication import publish
from components.shared.runtime.store.local_copy import download
from components.shared.runtime.store.uri import open_store
from pipelines.control.api.app import application
from pipelines.control.auth import principals
from pipelines.control.context import Control
from pipelines.control.services.models import register
from pipelines.kubeflow import clean
from tests.unit.shared.runtime.artifact.cases import write_model


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "key").write_bytes(os.urandom(32))
    monkeypatch.setenv("FORGE_ENCRYPTION_KEY_FILE", str(tmp_path / "key"))
    return f"file://{tmp_path}/store/run/artifacts/bitnet/model"


async def test_it_is_downloaded_in_plain_by_who_may(control: Control, address: str, tmp_path: Path) -> None:
    draft = write_model(tmp_path / "draft")
    weights = (draft / "model-1.safetensors").read_bytes()
    manifest = seal(draft, kind="model", phase="bitnet")
    publish(draft, address)
    stored = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert stored and not any(b"safetensors" in path.read_bytes() for path in stored)
    assert read(download(address, tmp_path / "cache")).digest == manifest.digest
    async with control.database.write() as connection:
        await register(connection, manifest, address, "", "bitnet", owner="")
        await principals.first_admin(connection)
    assert control.admin_key is not None
    app = application(control.settings)
    app.state.control = control
    headers = {"X-API-Key": control.admin_key.read_text().strip()}
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://localhost", headers=headers
    ) as client:
        answer = await client.get(f"/models/{manifest.digest}/files/model-1.safetensors")
        assert (answer.status_code, answer.content) == (200, weights)
        assert (await client.get(f"/models/{manifest.digest}/files/none")).status_code == 404
        names = (await client.get(f"/models/{manifest.digest}/tensors")).json()
        assert "a.weight" in str(names)


def test_a_runs_leftovers_are_cleaned_away_with_their_data_keys(address: str, tmp_path: Path) -> None:
    root, run = f"file://{tmp_path}/store", "0b3d7c2e-6c1f-4e1c-9d0a-5b1c2d3e4f5a"
    store = open_store(root)
    for name in ("checkpoints/bitnet/0123/000001-step-00000001/state.json", "progress/bitnet.json"):
        store.put(f"agent-forge/{run}/{name}", b"{}")
    _, found = clean.stale(root, older_than=0, artifacts=False, now=time.time() + 60)
    assert [stale.run for stale in found] == [f"agent-forge/{run}"]
    assert all(".forge-key-" not in key for stale in found for key in stale.keys)
    assert clean.remove(store, found[0])
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
