"""The routes of models, metrics and settings, as a client of the API sees them."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from pipelines.control.settings import ControlSettings
from tests.control.catalogue.made import ADMIN, ALICE, EVE, artifact, asking


@pytest.fixture
def settings(tmp_path: Path, sqlite_template: Path) -> ControlSettings:
    shutil.copyfile(sqlite_template, tmp_path / "control.db")
    return ControlSettings(
        runs=tmp_path / "runs", database_url=f"sqlite:///{tmp_path / 'control.db'}", role="api"
    )


@pytest.fixture
async def client(settings: ControlSettings) -> AsyncIterator[httpx2.AsyncClient]:
    async with asking(settings, ALICE) as opened:
        yield opened


@pytest.fixture
async def model(client: httpx2.AsyncClient, settings: ControlSettings) -> str:
    """The digest of an imported model of Alice's."""
    place = settings.runs / "demo" / "artifacts" / "bitnet" / "model"
    manifest = artifact(place)
    answer = await client.post("/models/import", json={"address": str(place)})
    assert answer.status_code == 200
    return manifest.digest


async def test_a_model_is_found_tagged_pinned_and_removed(client: httpx2.AsyncClient, model: str) -> None:
    [row] = (await client.get("/models", params={"q": "demo"})).json()["models"]
    assert (row["digest"], row["run"], row["task"], row["owner"]) == (model, "demo", "bitnet", "alice")
    assert (await client.put(f"/models/{model}/tags/champion")).json()["tags"] == ["champion"]
    assert (await client.put(f"/models/{model}/pin")).json()["pinned"]
    refused = await client.delete(f"/models/{model}")
    assert (refused.status_code, refused.json()["state"]) == (409, {"references": ["it is pinned"]})
    assert not (await client.delete(f"/models/{model}/pin")).json()["pinned"]
    assert (await client.delete(f"/models/{model}/tags/champion")).json()["tags"] == []
    assert (await client.delete(f"/models/{model}")).json()["kept"] == []
    assert (await client.get(f"/models/{model}")).status_code == 404


async def test_files_come_whole_and_in_ranges(
    client: httpx2.AsyncClient, model: str, settings: ControlSettings
) -> None:
    content = next(settings.runs.rglob("model.safetensors")).read_bytes()
    whole = await client.get(f"/models/{model}/files/model.safetensors")
    assert (whole.content, whole.headers["accept-ranges"]) == (content, "bytes")
    assert "attachment" in whole.headers["content-disposition"]
    part = await client.get(f"/models/{model}/files/model.safetensors", headers={"Range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, content[8:16])
    assert (await client.get(f"/models/{model}/files/forge.json")).status_code == 200


NAMES = (
    "../../../demo/x", "%2e%2e/%2e%2e/secret", "..%2f..%2fsecret", "/etc/passwd", "%2fetc%2fpasswd", "a%00b", "..%5csecret",
    "secret",
)  # fmt: skip


async def test_a_name_that_is_not_in_the_manifest_leads_nowhere(
    client: httpx2.AsyncClient, model: str, settings: ControlSettings
) -> None:
    next(settings.runs.rglob("forge.json")).parent.joinpath("secret").write_text("canary")
    for name in NAMES:
        answer = await client.get(f"/models/{model}/files/{name}")
        assert answer.status_code in (400, 404), name
        assert "canary" not in answer.text


async def test_a_link_in_the_place_of_a_file_is_not_followed(
    client: httpx2.AsyncClient, model: str, settings: ControlSettings, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("canary")
    file = next(settings.runs.rglob("config.json"))
    file.unlink()
    file.symlink_to(tmp_path / "secret")
    answer = await client.get(f"/models/{model}/files/config.json")
    assert answer.status_code == 409
    assert "canary" not in answer.text


async def test_a_manifest_that_is_a_bomb_is_refused(
    client: httpx2.AsyncClient, settings: ControlSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.control.services import manifests

    place = settings.runs / "bomb"
    artifact(place)
    monkeypatch.setattr(manifests, "LARGEST", 1000)
    taken = (await client.post("/models/import", json={"address": str(place)})).json()
    assert taken["models"] == [] and "larger than any" in taken["damaged"][0]
    (place / "forge.json").unlink()
    os.mkfifo(place / "forge.json")  # would be waited on for ever
    taken = (await client.post("/models/import", json={"address": str(place)})).json()
    assert "no file of its own" in taken["damaged"][0]


NO_QUESTIONS = (
    "/models?limit=0", "/models?limit=9999", "/models?min_score=nan", "/models?min_bytes=99999999999999999999999",
    "/models?q=%00", "/models?cursor=x", "/models?order=name", "/models?after=inf", "/models/xyz", f"/models/{'g' * 64}",
    f"/models/{'a' * 64}", f"/models/{'a' * 64}/tensors", f"/models/{'a' * 64}/lineage", "/metrics?points=1",
    "/metrics?points=99999", "/metrics?from=-1", "/metrics/aggregates", "/metrics?run=%00", "/metrics/compare?runs=none",
    "/metrics/compare?runs=", "/config/profiles/..%2fx", "/config/profiles/none",
    "/metrics/compare?runs=" + ",".join(map(str, range(21))),
)  # fmt: skip


async def test_what_does_not_fit_is_refused_in_words(client: httpx2.AsyncClient) -> None:
    for path in NO_QUESTIONS:
        answer = await client.get(path)
        assert answer.status_code in (400, 404, 422), path
        assert answer.json()["what"]


NO_BODIES = (
    ("/models/import", b'{"address": "/etc"}'), ("/models/import", b'{"address": "a\\ud800"}'),
    ("/models/import", b'{"address": "http://169.254.169.254/latest"}'), ("/models/import", b'{"address": ""}'),
    ("/models/answer", b'{"models": [], "prompt": "x"}'), ("/models/answer", b'{"models": ["a"], "prompt": "x"}'),
    ("/metrics", b'{"phase": "x", "metric_name": "y", "value": NaN}'), ("/metrics", b'{"phase": "x"}'),
    ("/metrics", b'{"phase": "x", "metric_name": "y", "value": 1e999}'),
    ("/metrics", b'{"phase": "\\u0000", "metric_name": "y", "value": 1}'),
    ("/config/validate", b'{"overrides": ["\\ud800"]}'), ("/config/validate", b'{"seed": -1}'),
)  # fmt: skip


async def test_a_body_that_does_not_fit_is_refused_in_words(client: httpx2.AsyncClient) -> None:
    for path, body in NO_BODIES:
        answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (403, 422), body
        assert answer.json()["what"]


async def test_what_is_recorded_is_a_curve(client: httpx2.AsyncClient) -> None:
    for at in (20.0, 10.0):
        body = {"phase": "training", "metric_name": "success", "value": at / 100, "timestamp": at}
        assert (await client.post("/metrics", json=body)).status_code == 201
    [curve] = (await client.get("/metrics", params={"phase": "training", "metric_name": "success"})).json()[
        "series"
    ]
    assert (curve["times"], curve["values"]) == ([10.0, 20.0], [0.1, 0.2])
    answer = (await client.get("/metrics/aggregates", params={"metric_name": "success"})).json()
    assert (answer["of"], answer["aggregates"][0]["last"]) == ("last points", 0.2)
    assert (await client.get("/metrics/report")).status_code == 200


async def test_a_profile_is_kept_where_it_fits(client: httpx2.AsyncClient) -> None:
    good = await client.put("/config/profiles/mine", json={"base": "micro", "overrides": ["bitnet.steps=9"]})
    assert good.status_code == 200
    assert (await client.get("/config/profiles/mine")).json()["overrides"] == ["bitnet.steps=9"]
    bad = await client.put("/config/profiles/mine", json={"base": "micro", "overrides": ["bitnet.steps=-9"]})
    assert bad.status_code == 422 and "bitnet.steps = -9" in bad.json()["why"]
    assert (await client.put("/config/profiles/tiny", json={})).status_code == 422
    assert (await client.put("/config/profiles/mine", json={"base": "nine"})).status_code == 422
    checked = await client.post("/config/validate", json={"profile": "mine"})
    assert checked.json()["phases"]["bitnet"]["values"]["steps"] == 9


async def test_a_viewer_reads_and_changes_nothing(settings: ControlSettings) -> None:
    async with asking(settings, EVE) as client:
        for path in (
            "/models",
            "/metrics",
            "/metrics/names",
            "/config",
            "/config/schema",
            "/config/state",
            "/config/profiles",
        ):
            assert (await client.get(path)).status_code == 200
        for method, path in (
            ("POST", "/models/import"), ("POST", "/models/answer"), ("DELETE", f"/models/{'a' * 64}"), ("POST", "/metrics"),
            ("PUT", f"/models/{'a' * 64}/pin"), ("PUT", "/config/profiles/mine"), ("POST", f"/models/{'a' * 64}/deploy"),
        ):  # fmt: skip
            assert (await client.request(method, path, json={})).status_code == 403, path


async def test_a_target_that_there_is_not_names_those_that_there_are(settings: ControlSettings) -> None:
    async with asking(settings, ADMIN) as client:
        place = settings.runs / "m"
        manifest = artifact(place)
        await client.post("/models/import", json={"address": str(place)})
        answer = await client.post(f"/models/{manifest.digest}/deploy", json={"target": "edge_devices"})
        assert answer.status_code == 422
        assert "transformers or gguf" in answer.json()["why"]
