"""How the page is served: which headers it has, what is kept, what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from pipelines.control.api import page
from pipelines.control.api.app import application
from pipelines.control.settings import ControlSettings


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>the page</title>")
    (folder / "assets" / "index-abc.js").write_text("export {};\n" * 100)
    (folder / ".secret").write_text("secret")
    monkeypatch.setattr(page, "DIST", folder)
    return folder


@pytest.fixture
def client(dist: Path) -> TestClient:
    return TestClient(application(ControlSettings(role="page", api_url="https://api.example.com")))


@pytest.mark.parametrize("path", ["/", "/ui", "/ui/runs", "/ui/runs/a%20b?tab=logs"])
def test_every_address_of_the_page_is_the_page_and_is_not_kept(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200 and "the page" in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_part_that_carries_its_digest_is_kept_for_ever_and_packed(client: TestClient) -> None:
    answer = client.get("/assets/index-abc.js")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip" and int(answer.headers["content-length"]) < 100
    assert answer.headers["content-type"].startswith("text/javascript") and answer.text.startswith("export")
    assert (
        "content-encoding"
        not in client.get("/assets/index-abc.js", headers={"Accept-Encoding": "identity"}).headers
    )


@pytest.mark.parametrize(
    "path",
    [
        "/assets/other.js",
        "/assets/..%2f..%2fsettings.py",
        "/assets/%2e%2e%2f.secret",
        "/.secret",
        "/index.html",
    ],
)
def test_what_is_no_part_of_the_page_is_not_there(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and "secret" not in answer.text.lower().replace(path, "")


def test_the_policy_lets_the_page_run_its_own_scripts_and_ask_its_own_api(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy and "script-src 'self';" in policy
    assert "connect-src 'self' https://api.example.com wss://api.example.com" in policy
    assert "require-trusted-types-for 'script'" in policy and "frame-ancestors 'none'" in policy


def test_the_page_learns_at_start_where_the_api_is(client: TestClient) -> None:
    assert client.get("/config.json").json() == {"api": "https://api.example.com"}
    alone = TestClient(application(ControlSettings(role="page")))
    assert alone.get("/config.json").json() == {"api": "http://localhost:8083"}


def test_the_role_page_has_no_other_route(client: TestClient) -> None:
    for path in ("/phases/runs", "/auth/me", "/openapi.json", "/metrics/prometheus"):
        assert client.get(path).status_code == 404


def test_a_page_that_is_not_built_says_how_to_build_it(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "DIST", tmp_path / "nothing")
    answer = client.get("/")
    assert answer.status_code == 503 and "make dashboard" in answer.text
    assert "make dashboard" in client.get("/assets/x.js").json()["fix"]


def test_a_page_that_is_built_anew_is_served_anew(client: TestClient, dist: Path) -> None:
    client.get("/")
    (dist / "assets" / "index-abc.js").unlink()
    (dist / "assets" / "index-new.js").write_text("export {};")
    (dist / "index.html").write_text("<!doctype html><title>newer</title>")
    assert "newer" in client.get("/").text
    assert client.get("/assets/index-new.js").status_code == 200
    assert client.get("/assets/index-abc.js").status_code == 404
