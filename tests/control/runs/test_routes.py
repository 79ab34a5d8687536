"""The routes of runs: versions as ETags, keys of requests, plans, pages, and what whoever asks may see."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from pipelines.control.auth.principals import KEY_FILE
from pipelines.control.settings import ControlSettings
from pipelines.runs.folder import RunFolder, RunStatus
from tests.control.log.conftest import serving
from tests.control.log.made import make_run
from tests.control.runs.toys import patient, toy_run, until


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a whole process: API, controller and jobs."""
    async with serving(ControlSettings(runs=tmp_path / "runs")) as served:
        headers = {**served.headers, "Content-Type": "application/json"}
        async with httpx2.AsyncClient(base_url=served.url, headers=headers, timeout=60.0) as asking:
            yield asking


async def test_a_run_by_http_from_the_plan_to_its_deletion(
    client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    folder = toy_run(tmp_path / "runs", patient, "toy")

    async def state() -> str:
        answer = await client.get("/phases/runs/toy")
        return str(answer.json().get("state", ""))

    async def is_cancelled() -> bool:
        return await state() == "cancelled"

    async def has_succeeded() -> bool:
        return await state() == "succeeded"

    await until(is_cancelled)
    seen = await client.get("/phases/runs/toy")
    version = seen.headers["ETag"]
    assert seen.json()["actions"]["resume"]["allowed"]
    stale = await client.post("/phases/runs/toy/resume", headers={"If-Match": '"99"'})
    assert (stale.status_code, stale.json()["state"]["state"]) == (412, "cancelled")
    resumed = await client.post("/phases/runs/toy/resume", headers={"If-Match": version})
    assert resumed.status_code == 202
    again = await client.post("/phases/runs/toy/resume", headers={"If-Match": version})
    assert again.status_code == 202  # twice is once
    await until((tmp_path / "runs" / "begun").exists)
    refused = await client.delete("/phases/runs/toy")
    assert refused.status_code == 409
    (tmp_path / "runs" / "gate").touch()
    await until(has_succeeded)
    await until((folder.path / "report.html").is_file)
    report = await client.get("/phases/runs/toy/report")
    assert report.status_code == 200 and "sandbox" in report.headers["Content-Security-Policy"]
    compared = (await client.get("/phases/compare", params={"runs": "toy"})).json()
    assert compared["runs"] == ["toy"] and compared["rows"][0]["state"] == "succeeded"
    system = (await client.get("/system")).json()
    assert system["pools"][0]["alive"] and {job["name"] for job in system["jobs"]} >= {
        "cleanup_checkpoints",
        "update_metrics",
    }

    async def nobody_is_at_it() -> bool:
        return (await client.delete("/phases/runs/toy")).status_code == 200

    await until(nobody_is_at_it)
    assert (await client.get("/phases/runs/toy")).status_code == 404
    assert not folder.path.exists()


async def test_a_plan_and_what_is_wrong_with_a_request(client: httpx2.AsyncClient) -> None:
    body = {"profile": "micro", "end_phase": "cognate", "dry_run": True}
    plan = await client.post("/phases/execute", json=body)
    assert plan.status_code == 200 and plan.json()["gpus"] == 1
    wrong = await client.post("/phases/execute", json={**body, "overrides": ["cognate.no_such=1"]})
    assert wrong.status_code == 422 and "no_such" in wrong.json()["what"] + wrong.json()["why"]
    alone = await client.post("/phases/bitnet/validate", json={"profile": "micro"})
    assert alone.json()["is_valid"] is False and alone.json()["issues"]
    assert (await client.get("/phases/runs", params={"cursor": "x"})).status_code == 422
    assert (await client.get("/phases/nothing")).status_code == 404
    assert (await client.get("/phases")).json()[0]["name"] == "cognate"
    assert (await client.get("/phases/queue")).json() == {"runs": []}


async def test_a_process_without_models_has_the_controller_look(tmp_path: Path) -> None:
    common = {"runs": tmp_path / "runs", "jwt_secret": "x" * 32}
    async with serving(ControlSettings(role="controller", **common)) as controller:
        settings = ControlSettings(role="api", controller_url=controller.url, **common)
        async with (
            serving(settings) as api,
            httpx2.AsyncClient(base_url=api.url, headers=api.headers, timeout=60.0) as asking,
        ):
            body = {"profile": "micro", "end_phase": "cognate"}
            plan = await asking.post("/phases/execute", json={**body, "dry_run": True})
            assert plan.status_code == 200 and plan.json()["profile"] == "micro"
            wrong = await asking.post("/phases/execute", json={**body, "overrides": ["cognate.no_such=1"]})
            assert wrong.status_code == 422 and "no_such" in wrong.json()["what"] + wrong.json()["why"]
        alone = settings.model_copy(update={"controller_url": "http://127.0.0.1:9"})
        async with (
            serving(alone) as api,
            httpx2.AsyncClient(base_url=api.url, headers=api.headers) as asking,
        ):
            away = await asking.post("/phases/execute", json=body)
            assert away.status_code == 503 and away.headers["Retry-After"]


async def test_a_run_is_deleted_and_its_report_read_where_its_folder_is(tmp_path: Path) -> None:
    common = {"database_url": f"sqlite:///{tmp_path / 'control.db'}", "jwt_secret": "x" * 32}
    at_work = ControlSettings(role="controller", runs=tmp_path / "runs", **common)
    async with serving(at_work) as controller:
        made = RunFolder(at_work.runs / "demo")
        await make_run(controller.control.database, state="failed", folder=str(made.path))
        made.path.mkdir()
        made.pipeline.write_text("")
        made.write(RunStatus("demo", "failed", parameters={}))
        (made.path / "report.html").write_text("<p>so it went</p>")
        settings = ControlSettings(
            role="api", runs=tmp_path / "other", controller_url=controller.url, **common
        )
        settings.folder.mkdir(parents=True)
        (settings.folder / KEY_FILE).write_text((at_work.folder / KEY_FILE).read_text())
        async with (
            serving(settings) as api,
            httpx2.AsyncClient(base_url=api.url, headers=api.headers, timeout=60.0) as asking,
        ):
            report = await asking.get("/phases/runs/demo/report")
            assert report.text == "<p>so it went</p>" and "text/html" in report.headers["Content-Type"]
            stale = await asking.delete("/phases/runs/demo", headers={"If-Match": '"99"'})
            assert stale.status_code == 412 and made.path.exists()
            assert (await asking.delete("/phases/runs/demo")).json()["bytes"] > 0
            assert not made.path.exists()
            assert (await asking.get("/phases/runs/demo/report")).status_code == 404


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800"])
async def test_text_that_no_database_keeps_is_refused(client: httpx2.AsyncClient, text: str) -> None:
    body = json.dumps({"profile": text, "overrides": [text]})
    for path in ("/phases/execute", "/phases/bitnet/validate"):
        assert (await client.post(path, content=body)).status_code in (400, 422)
    name = quote(text, errors="replace")
    for path in (f"/phases/runs?q={name}", f"/phases/runs/{name}"):
        assert (await client.get(path)).status_code < 500


async def test_a_state_that_there_is_not_is_refused_and_several_are_taken(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/phases/runs?state=failed,lost")).json() == {"runs": [], "next": None}
    refused = await client.get("/phases/runs?state=failed,nope")
    assert refused.status_code == 422 and "succeeded" in refused.json()["why"]


async def test_a_folder_that_is_not_understood_is_not_called_deleted(
    client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "runs" / "odd")
    folder.path.mkdir(parents=True)
    folder.write(RunStatus("odd", "succeeded"))

    async def is_known() -> bool:
        return bool((await client.get("/phases/runs/odd")).json().get("state") == "succeeded")

    await until(is_known)
    refused = await client.delete("/phases/runs/odd")
    assert refused.status_code == 409 and "by hand" in refused.json()["why"]
    assert (await client.get("/phases/runs/odd/logs?attempt=99999999999999999999")).status_code == 422
    assert (await client.get("/phases/runs/odd/logs?attempt=")).status_code == 200
